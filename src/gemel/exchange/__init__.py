"""Formats that networks come from and go to; the folder is the list: `gemel export RUN timm` takes timm.py."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from gemel.errors import UserError, unknown
from gemel.runs.output_paths import check_suffix
from gemel.runs.run import Run


def available() -> list[str]:
    """Return the names of the formats, a file or a package each, read from the folder without importing them."""
    folder = Path(__file__).parent
    packages = [path.parent.name for path in folder.glob("*/__init__.py")]
    return sorted(packages + [path.stem for path in folder.glob("*.py") if path.stem != "__init__"])


def find(name: str) -> Callable[[Run, Path | None], Path]:
    """Return the function that writes a run's network in a format, and returns the file.

    Raises:
        UserError: there is no such format.
    """
    if name not in available():
        raise UserError(unknown("format", name, available()))
    return import_module(f"gemel.exchange.{name}").export


def output(run: Run, out: Path | None, name: str, *suffixes: str) -> Path:
    """Return the file to write: `out`, else one of the given name in the run's folder.

    Raises:
        UserError: its ending is not one of the format's, or it can't be written.
    """
    path = run.path / name if out is None else out
    check_suffix(path, *suffixes)
    return path


def refuse(network: str, library: str, reasons: Sequence[str]) -> UserError:
    """Return the error for a backbone that a library's network of that name does not load, with the first reasons."""
    return UserError(
        f"{library} does not load this {network}: {'; '.join(reasons[:3])}; gemel export RUN safetensors writes any "
        "backbone under its own names"
    )
