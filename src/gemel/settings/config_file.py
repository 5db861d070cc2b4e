"""Read a YAML file into a mapping; whatever the file holds, the answer is the mapping or one reason in plain words."""

from pathlib import Path
from typing import Any

import yaml

from gemel.errors import UserError, brief

SIZE_LIMIT = 1_000_000
"""bytes; a settings file has some thousands, and a device that never ends must not fill the memory"""

NODE_LIMIT = 100_000
"""values once every alias is written out: a few lines of aliases of aliases would mean billions"""


def read_mapping(
    path: str | Path, example: str = "`epochs: 20` (see gemel recipe METHOD)", *, keys: tuple[type, ...] = (str,)
) -> dict[str, Any]:
    """Return the mapping that a YAML file holds, its keys as text; empty for an empty file.

    Args:
        path: the file, in UTF-8, or in UTF-16 with its mark.
        example: a line of such a file, for messages.
        keys: types that keys may have.

    Raises:
        UserError: missing, not text, too large, not YAML, not a mapping of names, a key given twice, values that
            hold themselves, or more than `NODE_LIMIT` of them.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"can't be read ({reason}); give a YAML file, like {example}") from error
    if len(data) > SIZE_LIMIT:
        raise UserError(f"holds more than {SIZE_LIMIT:,} bytes; give a YAML file, like {example}")
    try:
        values = yaml.load(data, _Loader)
    except RecursionError as error:
        raise UserError(f"nests too deep; give a mapping, like {example}") from error
    except yaml.YAMLError as error:
        raise UserError(f"is not YAML: {brief(' '.join(str(error).split()))}") from error
    # What PyYAML's constructors raise for `!!int x`, `!!bool x`, `!!timestamp x`, 2001-13-45 and 5,000 digits.
    except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        raise UserError(f"is not YAML: it holds a value that can't be read ({brief(str(error))})") from error
    if values is not None and not (isinstance(values, dict) and all(type(key) in keys for key in values)):
        found = "keys that are not names" if isinstance(values, dict) else brief(values)
        raise UserError(f"holds {found}; give a mapping, like {example}")
    return {str(key): value for key, value in (values or {}).items()}


class _Loader(yaml.SafeLoader):
    """YAML's safe tags only; a key given twice and aliases without measure are mistakes."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _count(node, {}) > NODE_LIMIT:
            raise yaml.YAMLError(f"its aliases stand for more than {NODE_LIMIT:,} values")
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: Any = super().compose_mapping_node(anchor)
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                line = node.value[number][0].start_mark.line + 1
                raise yaml.YAMLError(f"the key {key[1]} is given twice, the second time in line {line}")
        return node


def _count(node: Any, known: dict[int, int]) -> int:
    """Count the values below a node, aliases written out, each node once."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = 0  # being counted
        parts = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_count(one, known) for one in parts)
    elif not known[id(node)]:
        raise yaml.YAMLError("a value holds itself")
    return known[id(node)]
