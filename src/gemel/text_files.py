"""The one reader of the user's text files: lists of paths, tables of labels, lists of names."""

import codecs
import csv
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from gemel.errors import UserError, brief

SHOWN = 5
"""rows that a message names"""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Row(NamedTuple):
    """One row of a table."""

    line: int
    """of the file, from 1"""
    cells: dict[str, str]
    """by the column's name in lower case, without spaces around; empty where the row is too short"""


def read_text(path: str | Path) -> str:
    """Return the text of a file: UTF-8, or what its byte-order mark says; other bytes become surrogates.

    Raises:
        UserError: the file cannot be read, or is not a text file.
    """
    shown = brief(os.fsdecode(path))
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise UserError(f"{shown} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    if encoding is None and b"\0" in data:
        raise UserError(f"{shown} is not a text file; save it as text in UTF-8")
    try:
        # os.fsencode turns a surrogate back into its byte: a path need not be UTF-8
        text = data.decode(encoding or "utf-8", "strict" if encoding not in (None, "utf-8") else "surrogateescape")
    except UnicodeDecodeError as error:
        raise UserError(f"{shown} is not {(encoding or '').upper()} as it says: {error.reason}") from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: str | Path) -> list[tuple[int, str]]:
    """Return numbers and text of a file's lines, stripped, without empty lines and those that start with #.

    Raises:
        UserError: as `read_text`.
    """
    stripped = ((number, line.strip()) for number, line in enumerate(read_text(path).split("\n"), 1))
    return [(number, line) for number, line in stripped if line and not line.startswith("#")]


def read_table(path: str | Path, columns: Sequence[str]) -> list[Row]:
    """Return the rows of a CSV file whose cells are separated by commas, semicolons or tabs; empty rows are skipped.

    Args:
        path: the file; its first row names the columns, in any order, in capitals or not.
        columns: that must be there; others may be.

    Raises:
        UserError: as `read_text`; a column is missing or there twice; rows with more cells than columns; bad quotes.
    """
    shown = brief(os.fsdecode(path))
    text = read_text(path)
    first = text.partition("\n")[0]
    separator = _separator(first)
    reader = csv.reader(StringIO(text), delimiter=separator, skipinitialspace=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if any(Counter(header)[name] != 1 for name in columns):
            raise UserError(f"{shown} starts with {brief(first.strip())!r}; the header must be {','.join(columns)}")
        rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise UserError(f"{shown} cannot be read: line {reader.line_num}: {error}") from error
    long = [f"line {number}" for number, cells in rows if any(cells[len(header) :])]
    if long:
        raise UserError(
            f"{len(long)} rows of {shown} have more cells than its header: {shortened(long)}; "
            f"put a cell that holds {separator!r} in double quotes"
        )
    return [Row(number, dict(zip(header, cells + [""] * len(header), strict=False))) for number, cells in rows]


def _separator(header: str) -> str:
    return next((one for one in ",;\t" if one in header), ",")


def read_header(path: str | Path) -> list[str]:
    """Return the names of a CSV file's columns, as `read_table` has them.

    Raises:
        UserError: as `read_text`.
    """
    first = read_text(path).partition("\n")[0]
    return [name.strip().lower() for name in next(csv.reader([first], delimiter=_separator(first)), [])]


def composed(name: str) -> str:
    """Return a name in the one spelling by which names are compared: letters composed (NFC), as most systems type them.

    macOS writes the names of files with letters taken apart (NFD), which look the same.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def spellings(path: str) -> list[str]:
    r"""Return the path as it is written, then the other ways in which the same path may be stored.

    >>> spellings("a\\b.png")
    ['a\\b.png', 'a/b.png']
    """
    written = (path, path.replace("\\", "/"))
    forms = (
        one if form is None else unicodedata.normalize(form, one) for form in (None, "NFC", "NFD") for one in written
    )
    return list(dict.fromkeys(forms))


def shortened(texts: Sequence[str]) -> str:
    """Return the first few of many texts in one line."""
    return "; ".join(map(brief, texts[:SHOWN])) + (" ..." if len(texts) > SHOWN else "")
