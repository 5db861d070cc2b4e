"""What several commands take, and how they are asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

RAW = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""arguments are handed on as they are typed: the one checker reads them"""

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")]
Images = Annotated[str, typer.Argument(metavar="IMAGES", help="folder, text file of paths, or name of a data set")]


def asks_help(arguments: Sequence[str]) -> bool:
    """Whether a command that reads its own words was asked for help."""
    return "--help" in arguments or "-h" in arguments
