"""What several commands take, and how they are asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from gemel.errors import UserError

RAW = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""arguments are handed on as they are typed: the one checker reads them"""

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")]
Images = Annotated[str, typer.Argument(metavar="IMAGES", help="folder, text file of paths, or name of a data set")]


def asks_help(arguments: Sequence[str]) -> bool:
    """Whether a command that reads its own words was asked for help."""
    return "--help" in arguments or "-h" in arguments


def check_suffix(path: Path, *allowed: str) -> None:
    """Refuse a file that can't be written, before anything is done.

    Raises:
        UserError: its name ends in no format allowed, or there is no such folder.
    """
    if path.suffix not in allowed:
        raise UserError(f"--out {path} must end in {' or '.join(allowed)}")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.absolute().parent}; make it first")
