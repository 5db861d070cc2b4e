"""Where images come from: a folder, a list of files or a named data set, all as one fixed order of images."""

# pathlib knows no paths of bytes, and shows "./photos" otherwise than the user gave it
# ruff: noqa: PTH100, PTH109, PTH111, PTH113, PTH116, PTH118, PTH120, PTH123
import errno
import os
import stat
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemel.data.labels import by_folder, by_table
from gemel.data.listing import SUFFIXES, Paths, list_images, printable
from gemel.data.messages import no_images, nothing_of_that_name
from gemel.errors import UserError

BYTES_LIMIT = 600_000_000
"""Larger files are not read: the most pixels that are decoded take as many, in 16 bits and without compression."""

MISSING = 0.05
"""share of a list's files that may be gone already"""


class Source(ABC):
    """Images in a fixed order; small to send to worker processes.

    Args:
        name: as the user gave it.
        labels: (N,), -1 where unknown; None without labels. They never train anything.
        label_names: what each label is called.
        stated_classes: how many classes the data set's description states.
    """

    def __init__(
        self,
        name: str,
        labels: NDArray[np.int64] | None = None,
        label_names: list[str] | None = None,
        stated_classes: int | None = None,
    ) -> None:
        self.name = name
        self.labels = labels
        self.label_names = label_names or []
        self.stated_classes = stated_classes

    def rename_labels(self, names: list[str]) -> None:
        """Number the labels as another source does; a name that it has not becomes unknown, -1."""
        if self.labels is not None:
            place = {name: number for number, name in enumerate(names)}
            table = np.array([*(place.get(name, -1) for name in self.label_names), -1], np.int64)
            self.labels = table[self.labels]
            self.label_names = list(names)

    def subset(self, places: "NDArray[np.int64]") -> "Source":
        """The images at `places` (N,), in that order, with their labels; nothing is copied."""
        from gemel.data.subset import Subset  # which derives from this class

        return Subset(self, np.asarray(places, np.int64))

    def origin(self, place: int) -> "tuple[Source, int]":
        """The source that the image at `place` comes from, and its place there: where this one is of other sources."""
        return self, place

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def path(self, index: int) -> str:
        """What tables show for the image; names that are not UTF-8 hold surrogates (see `printable`)."""

    @abstractmethod
    def read(self, index: int) -> bytes | NDArray[np.uint8]:
        """The file's bytes, or pixels (H, W) or (H, W, 3) that the caller may write to.

        Raises:
            OSError: the file has vanished or cannot be read.
        """


class FileSource(Source):
    """Files on disk.

    Args:
        name: as the user gave it.
        shown: the folder as the user gave it; `path` joins it with a file's path.
        root: the same folder, absolute, so that a later change of the working folder does no harm.
        paths: each file, relative to the folder or absolute.
    """

    def __init__(self, name: str, shown: str, root: str, paths: Paths) -> None:
        super().__init__(name)
        self._shown = os.fsencode(shown)
        self._root = os.fsencode(root)
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def root(self) -> str:
        """The folder, absolute."""
        return os.fsdecode(self._root)

    def place(self, index: int) -> str:
        """Where the file is, absolute."""
        return os.fsdecode(os.path.join(self._root, self._paths[index]))

    def path(self, index: int) -> str:
        """The folder as it was given, and the path below it."""
        return os.fsdecode(os.path.join(self._shown, self._paths[index]))

    def read(self, index: int) -> bytes:
        """The file's bytes; OSError if it has vanished, may not be read, is no file or larger than `BYTES_LIMIT`."""
        place = os.path.join(self._root, self._paths[index])
        state = os.stat(place)
        if not stat.S_ISREG(state.st_mode):  # to open a pipe would wait for ever
            raise OSError(errno.EINVAL, "not a regular file")
        if state.st_size > BYTES_LIMIT:
            raise OSError(errno.EFBIG, f"a file of {state.st_size:,} bytes, more than {BYTES_LIMIT:,}")
        with open(place, "rb") as file:
            return file.read()

    def relative_path(self, index: int) -> str:
        """The path below the folder, or as the list has it."""
        return os.fsdecode(self._paths[index])


class ArraySource(Source):
    """Images of one size in an array.

    Args:
        name: paths are `name/0012`.
        images: (N, H, W) or (N, H, W, 3).
        file: the .npy file that the images are mapped from; such a source is pickled without its pixels.
    """

    def __init__(self, name: str, images: NDArray[np.uint8], file: Path | None = None, **described: Any) -> None:
        super().__init__(name, **described)
        self._images = images
        self._file = file
        self._digits = len(str(len(images) - 1))

    def __len__(self) -> int:
        return len(self._images)

    def path(self, index: int) -> str:
        """The set's name and the image's place in it."""
        return f"{self.name}/{index:0{self._digits}d}"

    def read(self, index: int) -> NDArray[np.uint8]:
        """A copy of the pixels: the array itself may be mapped read-only."""
        return np.array(self._images[index])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | ({"_images": None} if self._file else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._file:
            self._images = np.load(self._file, mmap_mode="r", allow_pickle=False)


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
        source = _data_set(given, labels)
    elif stat.S_ISDIR(mode):
        source = _folder(given, rescan)
    elif stat.S_ISREG(mode):
        source = _list_file(given)
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


def _folder(given: str, rescan: bool) -> Source:
    root = os.path.abspath(given)
    listing = list_images(root, rescan=rescan)
    if not len(listing.paths):
        raise UserError(no_images(given, listing))
    return FileSource(given, given, root, listing.paths)


def _list_file(given: str) -> Source:
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


def _data_set(given: str, labels: str | Path | None) -> Source:
    from gemel.data import datasets  # the only way to datasets' imports; folders do without

    named = datasets.find(given)
    if named is None:
        raise UserError(nothing_of_that_name(given, datasets.available()))
    found = datasets.load(*named)
    own = labels in (None, "own")
    return ArraySource(
        found.name,
        found.images,
        found.file,
        labels=found.labels if own else None,
        label_names=found.label_names if own and found.labels is not None else [],
        stated_classes=found.classes,
    )


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
