"""Where images come from: a folder, a list of files or a named data set, all as one fixed order of images."""

# pathlib knows no paths of bytes, and shows "./photos" otherwise than the user gave it
# ruff: noqa: PTH100, PTH109, PTH111, PTH113, PTH116, PTH120
import os
import stat
from pathlib import Path

from gemel.data.labels import by_folder, by_table
from gemel.data.listing import printable
from gemel.data.sources.arrays import ArraySource
from gemel.data.sources.base import Source
from gemel.data.sources.dataset import open_dataset
from gemel.data.sources.folder import FileSource, open_folder
from gemel.data.sources.listed import open_list
from gemel.errors import UserError

__all__ = ["ArraySource", "FileSource", "Source", "open_source", "printable"]


def open_source(images: str | Path, *, labels: str | Path | None = None, rescan: bool = False) -> Source:
    """The images that the user's words mean.

    Args:
        images: a folder, searched recursively; a text file of paths, one a line, relative to the text file's
            folder, blank lines and lines that start with # left out; or a data set's name (`digits`, `cifar10`,
            `cifar10:test`, ...). What exists on disk goes before a data set of the same name.
        labels: None or "own": the data set's own, none for files. "none": none. "folders": the first folder
            below IMAGES. A path: a CSV file with the columns path and label; paths as `Source.path` shows them
            or relative to the folder; an empty label, -1 and a missing row all mean unknown.
        rescan: list a folder anew where a listing in the user's cache would do.

    Raises:
        UserError: nothing of that name, no images, files or folders that are missing or may not be read,
            labels that do not fit.
    """
    given = os.path.expanduser(os.fsdecode(images))
    mode = _mode(given)
    if mode is None:
        source = open_dataset(given, labels)
    elif stat.S_ISDIR(mode):
        source = open_folder(given, rescan)
    elif stat.S_ISREG(mode):
        source = open_list(given)
    else:
        raise UserError(f"{printable(given)} is neither a folder nor a file")
    if labels not in (None, "own", "none"):
        _add_labels(source, os.fsdecode(labels))
    return source


def _mode(given: str) -> int | None:
    try:
        return os.stat(given).st_mode
    except PermissionError as error:
        raise UserError(f"{printable(given)} may not be read: {error.strerror}") from error
    except (OSError, ValueError):  # ValueError: a zero byte
        return None


def _add_labels(source: Source, labels: str) -> None:
    if labels == "folders":
        if not isinstance(source, FileSource):
            raise UserError(f"labels 'folders' needs a folder of images; {source.name} is a data set, with labels")
        paths = (source.relative_path(index) for index in range(len(source)))
        source.labels, source.label_names = by_folder(paths, source.name)
    elif os.path.isfile(labels):
        places, folders = source.path, ["", os.path.dirname(labels)]
        if isinstance(source, FileSource):  # paths below the folder, below the working folder, beside the table
            places, folders = source.place, [source.root, os.getcwd(), os.path.dirname(os.path.abspath(labels))]
        source.labels, source.label_names = by_table(labels, map(places, range(len(source))), folders)
    else:
        raise UserError(
            f"labels {printable(labels)!r}: no such file; give none, folders, or a CSV file with the columns path,label"
        )
