"""Formats that networks come from and go to; the folder is the list: `gemel export RUN official` takes official.py."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from gemel.errors import UserError
from gemel.runs import Run
from gemel.schema import nearest


def available() -> list[str]:
    """Names of the formats, read from the folder without importing them."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")


def find(name: str) -> Callable[[Run, Path | None], Path]:
    """The function that writes a run's network in a format, and returns the file.

    Raises:
        UserError: there is no such format.
    """
    if name not in available():
        raise UserError(f"format {name!r} is unknown; there are {', '.join(available())}{nearest(name, available())}")
    return import_module(f"gemel.exchange.{name}").export
