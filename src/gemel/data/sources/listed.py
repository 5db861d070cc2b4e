"""Paths of images: in a text file, one a line, or in a list of Python's."""

# pathlib knows no paths of bytes, and shows "./photos" otherwise than the user gave it
# ruff: noqa: PTH100, PTH111, PTH113, PTH118, PTH120
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from gemel.data.listing import SUFFIXES, Paths, printable
from gemel.data.sources.base import Source
from gemel.data.sources.folder import FileSource
from gemel.errors import UserError
from gemel.text_files import read_lines, shortened, spellings

MISSING = 0.05
"""share of a list's files that may be gone already"""


def open_list(given: Any) -> Source | None:
    """Return the images that a text file names, relative to its own folder; None if `given` is no file.

    Raises:
        UserError: no text, no paths, or too many that are not there.
    """
    if not isinstance(given, str) or not os.path.isfile(given):
        return None
    if os.fsencode(given).lower().rpartition(b".")[2] in SUFFIXES:
        raise UserError(f"{printable(given)} is one image; give its folder, or a text file of paths, one a line")
    return listed(given, os.path.dirname(given), [(f"line {number}", line) for number, line in read_lines(given)])


def open_paths(given: Any) -> Source | None:
    """Return the images of a sequence of paths, relative to the working folder; None if `given` is something else.

    Raises:
        UserError: no paths, or too many that are not there.
    """
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        return None
    if not all(isinstance(path, str | os.PathLike) for path in given):
        return None
    lines = [(f"path {number}", os.path.expanduser(os.fsdecode(path))) for number, path in enumerate(given)]
    return listed("list of paths", "", lines)


def listed(
    name: str, shown: str, lines: Sequence[tuple[str, str]], columns: Mapping[str, list[str]] = MappingProxyType({})
) -> Source:
    """Return the images of paths.

    Args:
        name: of the list, as the user gave it.
        shown: folder that they are relative to, as the user gave it.
        lines: where each path stands, for messages, and the path.
        columns: what a table says of them beside.

    Raises:
        UserError: no paths, or too many that are not there.
    """
    root = os.path.abspath(shown)
    if not lines:
        raise UserError(f"{printable(name)} names no files; write one path a line")
    found = [(where, line, _existing(root, line)) for where, line in lines]
    missing = [f"{where}: {line}" for where, line, path in found if path is None]
    if len(missing) > MISSING * len(lines):  # a few are like files that vanish later: skipped and reported
        raise UserError(
            f"{len(missing)} of the {len(lines)} files in {printable(name)} are not there, below {printable(root)}: "
            f"{shortened(missing)}"
        )
    return FileSource(name, shown, root, Paths.of([os.fsencode(path or line) for _, line, path in found]), columns)


def _existing(root: str, line: str) -> str | None:
    """The path in the spelling in which it stands on the disk."""
    return next((path for path in spellings(line) if os.path.isfile(os.path.join(root, path))), None)
