"""Where images come from: a folder, a list of files, arrays or a named dataset, all as one fixed order of images."""

# as in folder.py: a name need not be text
# ruff: noqa: PTH100, PTH111, PTH113, PTH116, PTH120
import os
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gemel.data.labels import by_folder, by_table, by_values
from gemel.data.listing import printable
from gemel.data.sources.archive import open_archives
from gemel.data.sources.arrays import ArraySource, open_arrays
from gemel.data.sources.base import Source
from gemel.data.sources.dataset import open_dataset
from gemel.data.sources.folder import FileSource, open_folder
from gemel.data.sources.listed import open_list, open_paths
from gemel.data.sources.lmdb import open_lmdb_file
from gemel.data.sources.remote import open_remote
from gemel.data.sources.rows import open_rows
from gemel.data.sources.table import open_table
from gemel.data.sources.vectors import VectorSource, open_vectors
from gemel.errors import UserError, brief

__all__ = ["ArraySource", "FileSource", "Images", "Labels", "Source", "VectorSource", "open_source", "printable"]

Images = str | Path | Sequence[str | Path | bytes] | NDArray[Any] | Sequence[NDArray[Any]]
"""what may be given for images"""

Labels = str | Path | Sequence[str | int] | NDArray[Any]
"""what may be given for labels"""


def open_source(images: Images, *, labels: Labels | None = None, rescan: bool = False) -> Source:
    """Return the images that the user's words mean.

    Args:
        images: a folder, searched recursively; a text file of paths, one a line, relative to the text file's
            folder, empty lines and lines that start with # ignored; an archive, shards, a table, a database or an
            address (see docs/formats.md); or a dataset's name (`digits`, `cifar10`, `cifar10:test`, ...); or vectors in
            place of images, a .parquet (path, vector), .npz or .npy file. What exists on disk has precedence over a
            dataset of the same name. From Python also a sequence of paths or of files as bytes, arrays (N, H, W) or
            (N, H, W, C), a list of arrays, or vectors (N, d).
        labels: None or "own": the dataset's own, none for files. "none": none. "folders": the first folder
            below IMAGES. A column of the table that IMAGES is. A path: a CSV file with the columns path and label;
            paths as `Source.path` shows them or relative to the folder. A sequence: one name or number for each image.
            An empty label, -1, NaN and a missing row all mean unknown.
        rescan: list a folder or an archive again where a listing in the user's cache would do.

    Raises:
        UserError: nothing of that name, no images, files or folders that are missing or may not be read,
            labels that do not fit.
    """
    given: Any = images
    if isinstance(images, str | os.PathLike):
        given = os.path.expanduser(os.fsdecode(images))
        _check(given)
    openers = (
        open_remote,
        open_vectors,
        open_arrays,
        partial(open_archives, rescan=rescan),
        open_rows,
        open_lmdb_file,
        open_table,
        open_paths,
        partial(open_folder, rescan=rescan),
        open_list,
        open_dataset,
    )
    source = next((found for opener in openers if (found := opener(given)) is not None), None)
    if source is None:
        raise UserError(f"images are a folder, a list of paths, an array or the name of a dataset, not {brief(images)}")
    if isinstance(labels, str | os.PathLike):
        _label(source, os.fsdecode(labels))
    elif labels is not None:
        if len(labels) != len(source):
            raise UserError(f"{len(labels)} labels for {len(source)} images; give one for each, -1 where unknown")
        source.labels, source.label_names = by_values(map(str, labels))
    return source


def _check(given: str) -> None:
    """Refuse what exists and is neither a folder nor a file, or may not be read."""
    try:
        mode = os.stat(given).st_mode
    except PermissionError as error:
        raise UserError(f"{printable(given)} may not be read: {error.strerror}") from error
    except (OSError, ValueError):  # ValueError: a zero byte
        return
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise UserError(f"{printable(given)} is neither a folder nor a file")


def _label(source: Source, labels: str) -> None:
    if labels == "none":
        source.labels, source.label_names = None, []
    elif labels == "folders":
        if not source.has_folders:
            raise UserError(f"labels 'folders' needs a folder of images; {source.name} has none")
        source.labels, source.label_names = by_folder(map(source.key, range(len(source))), source.name)
    elif labels in source.columns:
        source.labels, source.label_names = by_values(source.column(labels))
    elif labels != "own":
        if not os.path.isfile(labels):
            columns = f"; the table has the columns {brief(', '.join(source.columns))}" if source.columns else ""
            raise UserError(
                f"labels {brief(labels)!r}: no such file; give none, folders, or a CSV file with the columns "
                f"path,label{columns}"
            )
        paths = [source.file(index) or source.path(index) for index in range(len(source))]
        # below the folder, below the working folder, beside the table
        folders = [*source.folders, os.path.dirname(labels), os.path.dirname(os.path.abspath(labels))]
        source.labels, source.label_names = by_table(labels, paths, folders)
