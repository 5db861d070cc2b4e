"""Vectors in place of images: features that another network made, or a frozen one."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from gemel.data.labels import by_values
from gemel.data.sources.base import Source
from gemel.data.sources.rows import LABELS
from gemel.errors import UserError, brief, system_words

ENDINGS = (".parquet", ".npz", ".npy")

COLUMNS = ("vector", "vectors", "embedding")
"""names of a table's column of vectors"""

IMAGE_ARRAYS = ("images", "image")
"""names of arrays of images in an .npz file"""

_ROWS = 65_536
"""rows that are looked at together, so that mapped files larger than memory can be read"""

_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, pa.ArrowException)


Columns = Mapping[str, pa.ChunkedArray]
"""what a file says of each vector, by name"""


class VectorSource(Source):
    """One vector an image; there is no picture to decode.

    Args:
        name: as the user gave it.
        vectors: (N, d) floats, in memory or mapped from a file.
        paths: what tables show for each; None: `name/0012`, or as `images` has it.
        images: whose features they are.
        rows: (N,) row of `vectors` that each image has; None: its own number.
        columns: what else the file says of each vector, any of which may be its label.
    """

    in_memory = True

    rejected: dict[int, str] = {}  # noqa: RUF012  replaced as a whole
    """reasons why images have no vector of their own, by index"""

    neighbours: NDArray[np.int64] | None = None
    """(N, k) indices of the nearest vectors of each, from which its other views are drawn; None: its own are all"""

    def __init__(
        self,
        name: str,
        vectors: NDArray[Any],
        paths: Sequence[str] | None = None,
        *,
        images: Source | None = None,
        rows: NDArray[np.int64] | None = None,
        columns: Columns | None = None,
        **described: Any,
    ) -> None:
        super().__init__(name, **described)
        self.vectors = vectors
        self.width = int(vectors.shape[1])
        self._paths, self.images, self.rows = paths, images, rows
        self._columns = columns or {}
        self._digits = len(str(len(self) - 1))

    def __len__(self) -> int:
        return len(self.vectors if self.rows is None else self.rows)

    @property
    def columns(self) -> Sequence[str]:
        """Of the file, beside the vectors and their paths."""
        return list(self._columns)

    def column(self, name: str) -> list[str]:
        """Return the cells of a column as text, empty where there is none."""
        return ["" if cell is None else str(cell) for cell in self._columns[name].to_pylist()]

    def path(self, index: int) -> str:
        """Return the path that came with the vector, else the set's name and the vector's number in it."""
        if self.images is not None:
            return self.images.path(index)
        return f"{self.name}/{index:0{self._digits}d}" if self._paths is None else str(self._paths[index])

    def only(self, indices: NDArray[np.int64]) -> "VectorSource":
        """Return the vectors of some images alone, which are copied."""
        described: dict[str, Any] = {
            "labels": None if self.labels is None else self.labels[indices],
            "label_names": self.label_names,
            "stated_classes": self.stated_classes,
        }
        paths = None if self._paths is None else [str(self._paths[index]) for index in indices.tolist()]
        images = None if self.images is None else self.images.subset(indices)
        columns = {name: cells.take(pa.array(indices)) for name, cells in self._columns.items()}
        found = VectorSource(self.name, self.take(indices), paths, images=images, columns=columns, **described)
        places = {index: place for place, index in enumerate(indices.tolist())}
        found.rejected = {places[index]: why for index, why in self.rejected.items() if index in places}
        return found

    def take(self, indices: Any) -> NDArray[np.float32]:
        """Return the vectors of images, (n, d), as a new array."""
        rows = indices if self.rows is None else self.rows[indices]
        return np.array(self.vectors[rows], np.float32)

    def read(self, index: int) -> Any:
        """Return the vector, (d,)."""
        return self.take(index)

    def version(self, index: int) -> bytes:
        """Return the path and the numbers."""
        return self.path(index).encode("utf-8", "surrogateescape") + self.take(index).tobytes()


def open_vectors(given: Any) -> Source | None:
    """Return the vectors of an array of floats or of a .parquet, .npz or .npy file; None if `given` is something else.

    A column or array called label, class, category or target becomes the labels; `--labels NAME` takes another one.

    Raises:
        UserError: the file is damaged or holds no vectors, or they are not finite or differ in length.
    """
    if isinstance(given, np.ndarray) and given.ndim == 2 and given.dtype.kind == "f":
        return _checked("array", given, {})
    if not isinstance(given, str) or Path(given).suffix.lower() not in ENDINGS or not Path(given).is_file():
        return None
    if not _may_hold_vectors(Path(given)):
        return None
    read = {".parquet": _parquet, ".npz": _npz, ".npy": _npy}[Path(given).suffix.lower()]
    try:
        vectors, columns = read(Path(given))
    except UserError as error:
        raise UserError(*(f"{brief(given)}: {line}" for line in error.mistakes)) from error
    except _DAMAGED as error:
        why = system_words(error) if isinstance(error, OSError) else brief(str(error).split("\n")[0])
        raise UserError(f"{brief(given)} can't be read as vectors: {why}") from error
    return _checked(given, vectors, columns)


def _may_hold_vectors(path: Path) -> bool:
    """Return whether a file is none of images: a table with a column of vectors, an array (N, d); or damaged."""
    try:
        if path.suffix.lower() == ".parquet":
            return any(name in parquet.read_schema(path).names for name in COLUMNS)
        if path.suffix.lower() == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return not any(name in arrays.files for name in IMAGE_ARRAYS)
        return np.load(path, mmap_mode="r", allow_pickle=False).ndim < 3
    except _DAMAGED:
        return True


def _parquet(path: Path) -> tuple[NDArray[Any], Columns]:
    table = parquet.read_table(path, memory_map=True)
    column = next(name for name in COLUMNS if name in table.column_names)
    values = table[column].combine_chunks()
    if not _is_list(values.type):
        raise UserError(f"{column} holds {values.type}; give a list of numbers for each row")
    lengths = values.value_lengths()
    if values.null_count or len(lengths.unique()) > 1:
        raise UserError(f"the vectors differ in length: {_lengths(lengths, values.null_count)}")
    flat = values.flatten().to_numpy(zero_copy_only=False)
    if flat.dtype.kind not in "fiu":
        raise UserError(f"{column} holds {values.type}; give a list of numbers for each row")
    others = {name: table[name] for name in table.column_names if not _is_list(table[name].type)}
    return flat.reshape(len(values), -1), others


def _is_list(kind: pa.DataType) -> bool:
    return any(one(kind) for one in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _lengths(lengths: Any, empty: int) -> str:
    found = sorted({one for one in lengths.to_pylist() if one is not None})
    return (
        ", ".join(map(str, found[:3]))
        + (f" and {len(found) - 3} others" if len(found) > 3 else "")
        + (f", and {empty} rows have none" if empty else "")
    )


def _npz(path: Path) -> tuple[NDArray[Any], Columns]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # NumPy leaves a damaged file open
        names = [name for name in ("vector", "vectors", "features", "embeddings") if name in arrays.files]
        if not names:
            raise UserError(f"it holds {brief(', '.join(arrays.files) or 'nothing')}; name the array vector")
        others = {name: arrays[name] for name in arrays.files if name != names[0]}
        texts = {name: one.astype(str) for name, one in others.items() if one.ndim == 1 and one.dtype.kind in "biufSU"}
        return arrays[names[0]], {name: pa.chunked_array([pa.array(one)]) for name, one in texts.items()}


def _npy(path: Path) -> tuple[NDArray[Any], Columns]:
    return np.load(path, mmap_mode="c", allow_pickle=False), {}  # c: torch warns of arrays that can't be written to


def _checked(name: str, vectors: NDArray[Any], columns: Columns) -> Source:
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or not vectors.size:
        raise UserError(f"{brief(name)} holds {vectors.dtype} of shape {vectors.shape}; give vectors (N, d) of numbers")
    for column, cells in columns.items():
        if len(cells) != len(vectors) and column in ("path", *LABELS):
            raise UserError(
                f"{brief(name)} holds {len(cells)} values of {column} for {len(vectors)} vectors; give one for each"
            )
    broken, constant = list[int](), True
    for start in range(0, len(vectors), _ROWS):
        part = np.asarray(vectors[start : start + _ROWS], np.float32)
        broken += (start + np.flatnonzero(~np.isfinite(part).all(1))).tolist()
        constant = constant and bool((part == vectors[0]).all())
    if broken:
        raise UserError(
            f"{len(broken)} of {len(vectors)} vectors of {brief(name)} hold NaN or infinite values, the first is row "
            f"{broken[0]}; leave these rows out"
        )
    if constant and len(vectors) > 1:
        raise UserError(f"all {len(vectors)} vectors of {brief(name)} are the same; there is nothing to tell apart")
    vectors = vectors if vectors.dtype.kind == "f" else vectors.astype(np.float32)
    others = {key: cells for key, cells in columns.items() if key != "path" and len(cells) == len(vectors)}
    paths = [str(path) for path in columns["path"].to_pylist()] if "path" in columns else None
    source = VectorSource(name, np.require(vectors, requirements="W"), paths, columns=others)
    label = next((one for one in LABELS if one in others), None)
    if label is not None:
        source.labels, source.label_names = by_values(source.column(label))
    return source
