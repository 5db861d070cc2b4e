"""Studies: the folder is the list; `gemel study epochs` runs epochs.py, `gemel study twist-terms` twist_terms.py."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from gemel.errors import UserError
from gemel.schema import nearest

if TYPE_CHECKING:
    from gemel.studies.base import Study

_NOT_STUDIES = ("__init__", "barlow_scales", "base", "checks", "outcome", "plan", "runner", "twist_scales")


def available() -> list[str]:
    """Names of the studies, read from the folder without importing them."""
    files = [path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _NOT_STUDIES]
    return sorted(file.replace("_", "-") for file in files)


def find(name: str) -> "Study":
    """The study of a name.

    Raises:
        UserError: there is none.
    """
    if name not in available():
        raise UserError(f"study {name!r} is unknown; there are {', '.join(available())}{nearest(name, available())}")
    return import_module(f"gemel.studies.{name.replace('-', '_')}").STUDY
