"""Studies: the catalogue is the list; `gemel study twist-terms` runs catalogue/twist_terms.py."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from gemel.errors import UserError, unknown

if TYPE_CHECKING:
    from gemel.studies.base import Study


def available() -> list[str]:
    """Return the names of the studies, read from the folder without importing them."""
    files = (path.stem for path in (Path(__file__).parent / "catalogue").glob("*.py") if path.stem != "__init__")
    return sorted(file.replace("_", "-") for file in files)


def find(name: str) -> "Study":
    """Return the study of a name.

    Raises:
        UserError: there is none.
    """
    if name not in available():
        raise UserError(unknown("study", name, available()))
    return import_module(f"gemel.studies.catalogue.{name.replace('-', '_')}").STUDY
