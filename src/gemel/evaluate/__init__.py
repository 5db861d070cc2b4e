"""Evaluations: the folder is the list; `gemel evaluate RUN knn` runs knn.py."""

from importlib import import_module
from inspect import isclass
from pathlib import Path
from typing import TYPE_CHECKING

from gemel.errors import UserError
from gemel.schema import nearest

if TYPE_CHECKING:
    from gemel.evaluate.base import Evaluation

_NOT_PROTOCOLS = ("__init__", "base", "features", "closing", "gallery")


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
    from gemel.evaluate.base import Evaluation

    module = import_module(f"gemel.evaluate.{name}")
    return next(one for one in vars(module).values()
                if isclass(one) and issubclass(one, Evaluation) and one is not Evaluation)  # fmt: skip
