"""A text file of paths."""

# pathlib knows no paths of bytes, and shows "./photos" otherwise than the user gave it
# ruff: noqa: PTH100, PTH113, PTH118, PTH120, PTH123
import os

from gemel.data.listing import SUFFIXES, Paths, printable
from gemel.data.sources.base import Source
from gemel.data.sources.folder import FileSource
from gemel.errors import UserError

MISSING = 0.05
"""share of a list's files that may be gone already"""


def open_list(given: str) -> Source:
    """Open a text file of paths."""
    shown = os.path.dirname(given)
    root = os.path.abspath(shown)
    lines = _lines(given)
    place = os.fsencode(root)
    missing = [
        f"line {number}: {printable(os.fsdecode(line))}"
        for number, line in lines
        if not os.path.isfile(os.path.join(place, line))
    ]
    if len(missing) > MISSING * len(lines):  # a few are like files that vanish later: skipped, and told
        first = "; ".join(missing[:5])
        raise UserError(
            f"{len(missing)} of the {len(lines)} files in {printable(given)} are not there, below "
            f"{printable(root)}: {first}{' ...' if len(missing) > 5 else ''}"
        )
    if not lines:
        raise UserError(f"the list {printable(given)} names no files; write one path a line")
    return FileSource(given, shown, root, Paths.of([line for _, line in lines]))


def _lines(given: str) -> list[tuple[int, bytes]]:
    """Numbers and paths of a list's lines, as bytes: a file's name need not be text."""
    try:
        with open(given, "rb") as file:
            start = file.read(65536)
            if b"\0" in start or os.fsencode(given).lower().rpartition(b".")[2] in SUFFIXES:
                raise UserError(
                    f"{printable(given)} is neither a folder nor a text file (UTF-8) of paths, one a line; "
                    "to use one image, give its folder"
                )
            data = (start + file.read()).removeprefix(b"\xef\xbb\xbf")  # Windows' editors begin a text so
    except OSError as error:
        raise UserError(f"the list {printable(given)} cannot be read: {error.strerror}") from error
    stripped = ((number, line.strip()) for number, line in enumerate(data.splitlines(), 1))
    return [(number, line) for number, line in stripped if line and not line.startswith(b"#")]
