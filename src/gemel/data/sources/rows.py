"""Images in the rows of Arrow and Parquet files, as Hugging Face datasets keep them; read without their library."""

# as in folder.py: a name need not be text
# ruff: noqa: PTH100, PTH113, PTH118, PTH119, PTH120, PTH122, PTH123
import errno
import json
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from gemel.data.labels import by_values
from gemel.data.listing import printable
from gemel.data.sources.base import Source
from gemel.data.sources.patterns import files_of, is_pattern
from gemel.data.sources.random_access import BYTES_LIMIT, RandomAccess, Stamp
from gemel.errors import UserError, brief, system_words

ENDINGS = (".arrow", ".parquet")

DICTIONARY = "dataset_dict.json"
"""of a folder with a dataset for each split"""

IMAGES = ("image", "img", "jpg", "jpeg", "png", "bytes", "pixel_values")
"""names of columns of images, the likeliest first"""

LABELS = ("label", "labels", "class", "class_name", "category", "target", "fine_label")
"""names of columns of labels, the likeliest first"""

KEPT_BYTES = 256_000_000
"""of unpacked row groups of Parquet files, each with all its images, that a process holds"""

_DAMAGED = (OSError, pa.ArrowException, ValueError, KeyError)


class Column(NamedTuple):
    """Where the images of a table stand."""

    name: str
    inner: str = ""
    """field of a struct that holds the bytes; empty: the column itself does"""
    beside: str = ""
    """field of a struct that holds the path of a file where there are no bytes"""


class RowSource(Source):
    """Rows of Arrow or Parquet files, each with the bytes of an image.

    Args:
        name: as the user gave it.
        files: of the rows, in order.
        column: of the images.
        counts: rows of each file.
    """

    def __init__(
        self, name: str, files: Sequence["_File"], column: Column, counts: Sequence[int], **described: Any
    ) -> None:
        super().__init__(name, **described)
        self._files, self._column = files, column
        self._ends = list(accumulate(counts))
        self._digits = len(str(self._ends[-1] - 1))

    def __len__(self) -> int:
        return self._ends[-1]

    def path(self, index: int) -> str:
        """Return the name of the table, and the row's number."""
        return f"{self.name}/{self.key(index)}"

    def key(self, index: int) -> str:
        """Return the row's number."""
        return f"{index:0{self._digits}d}"

    @property
    def columns(self) -> Sequence[str]:
        """The other columns."""
        return [name for name in self._files[0].schema.names if name != self._column.name]

    def column(self, name: str) -> list[str]:
        """Return the cells of a column as text; of numbered classes their names."""
        names = _class_names(self._files[0].schema, name)
        cells = [cell for one in self._files for cell in one.cells(name)]
        if names:
            return ["" if cell is None or not 0 <= cell < len(names) else names[cell] for cell in cells]
        return ["" if cell is None else str(cell) for cell in cells]

    def identity(self, index: int) -> Hashable:
        """Return the file's number on its disk, and the row."""
        file, row = self._at(index)
        return *file.stamp[:4], row

    def version(self, index: int) -> bytes:
        """Return the file's path, size and times, and the row."""
        file, row = self._at(index)
        return file.version + f" {row}".encode()

    def read(self, index: int) -> bytes:
        """Return the bytes of the image, or of the file that the row names.

        Raises:
            OSError: there are none, or the table has changed since it was opened.
        """
        file, row = self._at(index)
        try:
            cell = file.cell(self._column.name, row)
        except (pa.ArrowException, ValueError) as error:
            raise OSError(errno.EIO, f"damaged table: {brief(str(error))}") from error
        if isinstance(cell, dict):
            data, path = cell.get(self._column.inner), cell.get(self._column.beside)
            if data is None and path:
                with open(os.path.join(os.path.dirname(file.path), path), "rb") as opened:
                    return opened.read(BYTES_LIMIT)
            cell = data
        if cell is None:
            raise OSError(errno.ENODATA, "the row holds no image")
        return bytes(cell)

    def _at(self, index: int) -> tuple["_File", int]:
        number = bisect_right(self._ends, index)
        return self._files[number], index - (self._ends[number - 1] if number else 0)


class _File:
    """One file of rows; opened once a process, at its first use.

    Args:
        path: absolute.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._access = RandomAccess(path)
        self._is_parquet = path.lower().endswith(".parquet")
        self._begin()
        opened = self._open()
        self.schema: pa.Schema = opened.schema_arrow if self._is_parquet else opened.schema
        self.rows = int(opened.metadata.num_rows if self._is_parquet else opened.num_rows)

    @property
    def stamp(self) -> Stamp:
        return self._access.stamp

    @property
    def version(self) -> bytes:
        return self._access.version

    def cells(self, name: str) -> list[Any]:
        """Return a whole column."""
        opened = self._open()
        table = opened.read(columns=[name]) if self._is_parquet else opened.select([name])
        return table[name].to_pylist()

    def cell(self, name: str, row: int) -> Any:
        """Return one cell."""
        self._access.check(Stamp.of(self.path))
        opened = self._open()
        if not self._is_parquet:
            chunk = bisect_right(self._ends, row)
            return opened[name].chunk(chunk)[row - (self._ends[chunk - 1] if chunk else 0)].as_py()
        group = bisect_right(self._ends, row)
        first = self._ends[group - 1] if group else 0
        return self._group(opened, name, group)[row - first].as_py()

    def _group(self, opened: Any, name: str, group: int) -> pa.ChunkedArray:
        """Return the images of a row group, unpacked once by the thread that first asks for it."""
        with self._lock:
            found = self._groups.get(group)
            if found is not None:
                self._groups.move_to_end(group)
                return found
            lock = self._unpacking.setdefault(group, threading.Lock())
        with lock:
            with self._lock:
                found = self._groups.get(group)
            if found is None:
                # a reader of its own: one of several threads' may not be shared
                reader = parquet.ParquetFile(self.path, metadata=opened.metadata, memory_map=True)
                found = reader.read_row_group(group, columns=[name], use_threads=False)[name]
                self._keep(group, found)
        return found

    def _keep(self, group: int, found: pa.ChunkedArray) -> None:
        with self._lock:
            self._groups[group] = found
            self._held += found.nbytes
            self._unpacking.pop(group, None)
            while len(self._groups) > 1 and self._held > KEPT_BYTES:
                self._held -= self._groups.popitem(last=False)[1].nbytes

    def _open(self) -> Any:
        with self._lock:
            if self._opened is None:
                if self._is_parquet:
                    found = parquet.ParquetFile(self.path, memory_map=True)
                    counts = [found.metadata.row_group(one).num_rows for one in range(found.num_row_groups)]
                else:
                    found = _arrow_table(self.path)
                    counts = [one.num_rows for one in found.to_batches()]
                self._opened, self._ends = found, list(accumulate(counts))
            return self._opened

    def _begin(self) -> None:
        self._opened: Any = None
        self._ends: list[int] = []
        self._lock = threading.Lock()
        self._groups: OrderedDict[int, pa.ChunkedArray] = OrderedDict()
        self._held = 0
        self._unpacking: dict[int, threading.Lock] = {}

    def __getstate__(self) -> dict[str, Any]:
        kept = ("path", "schema", "rows", "_access", "_is_parquet")
        return {key: value for key, value in vars(self).items() if key in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._begin()


def open_rows(given: Any) -> Source | None:
    """Return the images of .parquet or .arrow files, one or a pattern of names; None if they hold no images.

    Raises:
        UserError: a file is missing or damaged.
    """
    if not isinstance(given, str) or os.path.splitext(given)[1].lower() not in ENDINGS:
        return None
    if is_pattern(given):
        return table_source(given, files_of(given))
    return table_source(given, [given], needed=given.lower().endswith(".arrow")) if os.path.isfile(given) else None


def table_source(name: str, files: Sequence[str], *, needed: bool = True) -> Source | None:
    """Return the images in the rows of files that have the same columns.

    Args:
        name: as the user gave it.
        files: in order.
        needed: whether a table without images is an error, and not None.

    Raises:
        UserError: a file is damaged, files have other columns or are of several splits, or there are no images.
    """
    splits = sorted({os.path.basename(one).rpartition("-of-")[0].rpartition("-")[0] for one in files} - {""})
    if len(splits) > 1:
        folder = os.path.dirname(files[0])
        raise UserError(
            f"{printable(name)} holds several splits: {', '.join(splits)}; give one, as '{folder}/{splits[0]}-*"
            f"{os.path.splitext(files[0])[1]}'"
        )
    try:
        opened = [_File(os.path.abspath(one)) for one in files]
    except OSError as error:
        raise UserError(f"{printable(name)} can't be read: {system_words(error)}") from error
    except (pa.ArrowException, ValueError) as error:
        raise UserError(f"{printable(name)} can't be read as a table: {brief(str(error))}") from error
    column = column_of(opened[0].schema)
    if column is None:
        if not needed:
            return None
        raise UserError(
            f"{printable(name)} has the columns {brief(', '.join(opened[0].schema.names))}, none with the bytes of "
            "images; name it image"
        )
    odd = [one.path for one in opened if one.schema.names != opened[0].schema.names]
    if odd:
        raise UserError(f"{printable(odd[0])} has other columns than {printable(opened[0].path)}; give them apart")
    if not sum(one.rows for one in opened):
        raise UserError(f"{printable(name)} holds no rows")
    source = RowSource(name, [one for one in opened if one.rows], column, [one.rows for one in opened if one.rows])
    label = next((one for one in LABELS if one in source.columns), None) or _one_of_classes(opened[0].schema)
    if label is not None:
        source.labels, source.label_names = by_values(source.column(label))
    return source


def column_of(schema: pa.Schema) -> Column | None:
    """Return where the bytes of images stand; None if a table holds none."""
    declared = [name for name, feature in _features(schema).items() if feature.get("_type") == "Image"]
    names = [name for name in schema.names if _inner(schema.field(name).type) is not None]
    chosen = next((name for name in (*declared, *IMAGES) if name in names), names[0] if len(names) == 1 else None)
    if chosen is None:
        return None
    kind = schema.field(chosen).type
    beside = "path" if pa.types.is_struct(kind) and kind.get_field_index("path") >= 0 else ""
    return Column(chosen, _inner(kind) or "", beside)


def splits_of(folder: str) -> list[str]:
    """Return the folders of a dataset's splits."""
    try:
        names = json.loads(Path(folder, DICTIONARY).read_text(encoding="utf-8"))["splits"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{printable(folder)}/{DICTIONARY} is damaged: {error}") from error
    return [os.path.join(folder, name) for name in names]


def _inner(kind: pa.DataType) -> str | None:
    """Return the field of a type that holds bytes, empty for the type itself; None if there are none."""
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return ""
    if pa.types.is_struct(kind):
        found = [one.name for one in kind if pa.types.is_binary(one.type) or pa.types.is_large_binary(one.type)]
        return found[0] if found else None
    return None


def _features(schema: pa.Schema) -> dict[str, Any]:
    """Return what the datasets library notes of each column; nothing where another program wrote the table."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _class_names(schema: pa.Schema, column: str) -> list[str]:
    feature = _features(schema).get(column, {})
    return list(map(str, feature.get("names", []))) if feature.get("_type") == "ClassLabel" else []


def _one_of_classes(schema: pa.Schema) -> str | None:
    found = [name for name in schema.names if _class_names(schema, name)]
    return found[0] if len(found) == 1 else None


def _arrow_table(path: str) -> pa.Table:
    """Map a file of Arrow's stream format, as the datasets library writes it, or of its file format."""
    mapped = pa.memory_map(path)
    try:
        return pa.ipc.open_stream(mapped).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(pa.memory_map(path)).read_all()
