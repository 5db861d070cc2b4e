"""A table of images: a column of paths, and any others, in a CSV or Parquet file."""

# as in folder.py: a name need not be text
# ruff: noqa: PTH113, PTH120, PTH122
import os
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from gemel.data.labels import by_values
from gemel.data.listing import printable
from gemel.data.sources.base import Source
from gemel.data.sources.listed import listed
from gemel.data.sources.rows import LABELS
from gemel.errors import UserError, brief
from gemel.text_files import read_header, read_table

PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "image", "img_path", "img")
"""names of columns of paths, the likeliest first"""

_TEXT = (".csv", ".tsv")


def open_table(given: Any) -> Source | None:
    """Return the images that a table names, relative to its own folder; None if `given` is no table with such a column.

    A column called label, class, category or target becomes the labels; `--labels NAME` takes another one.

    Raises:
        UserError: the file is damaged, names no images, or too many that are not there.
    """
    ending = os.path.splitext(given)[1].lower() if isinstance(given, str) else ""
    if ending not in (*_TEXT, ".parquet") or not os.path.isfile(given):
        return None
    columns = _of_parquet(given) if ending == ".parquet" else _of_text(given)
    name = next((one for one in PATHS if one in columns), None)
    if name is None:
        if ending in _TEXT:
            return None  # a list of paths, one a line
        raise UserError(
            f"{brief(given)} has the columns {brief(', '.join(columns))}; call that of paths path, that of images "
            "image, or that of vectors vector"
        )
    lines = [(f"row {number}", path) for number, path in enumerate(columns.pop(name), 1)]
    source = listed(given, os.path.dirname(given), lines, columns)
    label = next((one for one in LABELS if one in columns), None)
    if label is not None:
        source.labels, source.label_names = by_values(columns[label])
    return source


def _of_text(path: str) -> dict[str, list[str]]:
    """Return the columns of a table with a column of paths; nothing of a list of paths without a header."""
    header = read_header(path)
    if not any(one in header for one in PATHS):
        return {}
    rows = read_table(path, [next(one for one in PATHS if one in header)])
    return {name: [row.cells[name] for row in rows] for name in header}


def _of_parquet(path: str) -> dict[str, list[str]]:
    """Return the columns of plain values, as text."""
    try:
        table = parquet.read_table(path, memory_map=True)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{printable(path)} can't be read as a table: {brief(str(error))}") from error
    plain = [name for name in table.column_names if not pa.types.is_nested(table.schema.field(name).type)]
    return {name: ["" if one is None else str(one) for one in table[name].to_pylist()] for name in plain}
