"""Evaluations: the folder is the list; `gemel evaluate RUN knn` runs knn.py."""

from importlib import import_module
from inspect import isclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemel.errors import UserError
from gemel.schema import convert, mistakes_in, nearest, schema_of

if TYPE_CHECKING:
    from gemel.evaluations.base import Evaluation

_NOT_PROTOCOLS = ("__init__", "base", "closing", "features", "gallery", "splits", "supervised", "tables")


def available() -> list[str]:
    """Names of the protocols, read from the folder without importing them."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _NOT_PROTOCOLS)


def find(name: str) -> "type[Evaluation]":
    """The evaluation of a protocol.

    Raises:
        UserError: there is none of that name.
    """
    if name not in available():
        raise UserError(f"protocol {name!r} is unknown; there are {', '.join(available())}{nearest(name, available())}")
    from gemel.evaluations.base import Evaluation

    module = import_module(f"gemel.evaluations.{name}")
    return next(
        one for one in vars(module).values() if isclass(one) and issubclass(one, Evaluation) and one is not Evaluation
    )


def make(name: str, options: dict[str, Any]) -> "Evaluation":
    """The evaluation of a protocol with its options.

    Raises:
        UserError: unknown protocol, unknown options or values out of range.
    """
    protocol = find(name)
    schema = schema_of(protocol)
    mistakes = mistakes_in(options, schema.model_fields, lambda key: f"--{key}", title=name)
    if mistakes:
        raise UserError(*mistakes)
    return protocol(**convert(schema, options, name))
