"""A YAML file to a mapping; whatever the file holds, the answer is the mapping or one reason in plain words."""

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
    """The mapping that a YAML file holds, its keys as text; empty for an empty file.

    Args:
        path: the file.
        example: of a line, for messages.
        keys: what they may be.

    Raises:
        UserError: missing, not UTF-8, too large, not YAML, not a mapping of names, a key given twice, values that
            hold themselves, or more than `NODE_LIMIT` of them.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
        text = data.decode("utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a zero byte in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"can't be read ({reason}); give a YAML file, like {example}") from error
    if len(data) > SIZE_LIMIT:
        raise UserError(f"holds more than {SIZE_LIMIT:,} bytes; give a YAML file, like {example}")
    try:
        values = yaml.load(text, _Loader)
    except RecursionError as error:
        raise UserError(f"nests too deep; give a mapping, like {example}") from error
    except yaml.YAMLError as error:
        raise UserError(f"is not YAML: {brief(' '.join(str(error).split()))}") from error
    # What PyYAML's constructors raise for `!!int x`, `!!bool x`, `!!timestamp x`, 2001-13-45 and 5,000 digits.
    except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        raise UserError(f"is not YAML: it holds a value that can't be read ({brief(str(error))})") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(type(key) in keys for key in values):
        found = "keys that are no names" if isinstance(values, dict) else brief(values)
        raise UserError(f"holds {found}; give a mapping, like {example}")
    return {str(key): value for key, value in values.items()}


class _Loader(yaml.SafeLoader):
    """YAML's safe tags only; a key given twice and aliases without measure are mistakes."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _count(node, {}) > NODE_LIMIT:
            raise yaml.YAMLError(f"its aliases stand for more than {NODE_LIMIT:,} values")
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: Any = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(f"the key {key.value} is given twice, the second time in line {line}")
                seen.add((key.tag, key.value))
        return node


def _count(node: Any, known: dict[int, int]) -> int:
    """Values below a node, aliases written out, each node counted once and remembered."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in known:
        if not known[id(node)]:
            raise yaml.YAMLError("a value holds itself")
        return known[id(node)]
    known[id(node)] = 0  # being counted
    parts = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
    known[id(node)] = 1 + sum(_count(one, known) for one in parts)
    return known[id(node)]
