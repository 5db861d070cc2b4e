"""Evaluations: the folder `protocols` is the list; `gemel evaluate RUN knn` runs protocols/knn.py."""

from importlib import import_module
from inspect import isclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemel.errors import UserError, unknown
from gemel.settings.schema import convert, mistakes_in, schema_of

if TYPE_CHECKING:
    from gemel.evaluations.base import Evaluation


def available() -> list[str]:
    """Names of the protocols, read from the folder without importing them."""
    stems = (path.stem for path in (Path(__file__).parent / "protocols").glob("*.py") if path.stem != "__init__")
    return sorted(stem.replace("_", "-") for stem in stems)


def name_of(protocol: "type[Evaluation]") -> str:
    """What a protocol is called: as its file."""
    return protocol.__module__.rsplit(".", 1)[-1].replace("_", "-")


def find(name: str) -> "type[Evaluation]":
    """The evaluation of a protocol.

    Raises:
        UserError: there is none of that name.
    """
    name = name.replace("_", "-")
    if name not in available():
        raise UserError(unknown("protocol", name, available()))
    from gemel.evaluations.base import Evaluation

    module = import_module(f"gemel.evaluations.protocols.{name.replace('-', '_')}")
    return next(
        one
        for one in vars(module).values()
        if isclass(one) and issubclass(one, Evaluation) and one.__module__ == module.__name__
    )


def make(name: str, options: dict[str, Any]) -> "Evaluation":
    """The evaluation of a protocol with its options.

    Raises:
        UserError: unknown protocol, unknown options or values out of range.
    """
    protocol = find(name)
    schema = schema_of(protocol)
    mistakes = mistakes_in(options, schema.model_fields, lambda key: f"--{key.replace('_', '-')}", title=name)
    if mistakes:
        raise UserError(*mistakes)
    return protocol(**convert(schema, options, name))
