"""A folder of images."""

# pathlib knows no paths of bytes, and shows "./photos" otherwise than the user gave it
# ruff: noqa: PTH100, PTH112, PTH116, PTH118, PTH123
import errno
import os
import stat
from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from gemel.data.listing import Paths, list_images
from gemel.data.messages import no_images
from gemel.data.sources.base import Source
from gemel.data.sources.packed_folder import open_packed
from gemel.data.sources.random_access import BYTES_LIMIT
from gemel.errors import UserError


class FileSource(Source):
    """Files on disk.

    Args:
        name: as the user gave it.
        shown: the folder as the user gave it; `path` joins it with a file's path.
        root: the same folder, absolute, so that a later change of the working folder does no harm.
        paths: each file, relative to the folder or absolute.
        columns: of a table that names them, one cell a file.
    """

    has_folders = True

    def __init__(
        self, name: str, shown: str, root: str, paths: Paths, columns: Mapping[str, list[str]] = MappingProxyType({})
    ) -> None:
        super().__init__(name)
        self._columns = dict(columns)
        self._shown = os.fsencode(shown)
        self._root = os.fsencode(root)
        self._real = os.path.realpath(self._root)
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def root(self) -> str:
        """The folder, absolute."""
        return os.fsdecode(self._root)

    @property
    def folders(self) -> Sequence[str]:
        """The folder, then the working folder."""
        return [self.root, os.getcwd()]  # noqa: PTH109

    @property
    def columns(self) -> Sequence[str]:
        """Of the table that named the files."""
        return list(self._columns)

    def column(self, name: str) -> list[str]:
        """Return a column of the table that named the files."""
        return self._columns[name]

    def path(self, index: int) -> str:
        """Return the folder as it was given, and the path below it."""
        return os.fsdecode(os.path.join(self._shown, self._paths[index]))

    def key(self, index: int) -> str:
        """Return the path below the folder, or as the list has it."""
        return os.fsdecode(self._paths[index])

    def file(self, index: int) -> str:
        """Return the absolute path."""
        return os.fsdecode(os.path.join(self._root, self._paths[index]))

    def file_size(self, index: int) -> int:
        """Return the file's bytes, -1 of one that cannot be asked."""
        try:
            return os.stat(self.file(index)).st_size
        except OSError:
            return -1

    def identity(self, index: int) -> Hashable:
        """Return the file's number on its disk: links and several spellings of a path lead to the same."""
        path = os.path.join(self._root, self._paths[index])
        try:
            state = os.stat(path)
        except OSError:
            return path
        # size and time: not every network file system gives each file a number of its own
        return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns

    def version(self, index: int) -> bytes:
        """Return path, size and times; the system sets the time of the last change, and no archive can restore it."""
        path = os.path.join(self._real, self._paths[index])
        try:
            state = os.stat(path)
        except OSError as error:
            return path + f" {error.errno}".encode()
        return path + f" {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}".encode()

    def read(self, index: int) -> bytes:
        """Return the file's bytes.

        Raises:
            OSError: it has vanished, may not be read, is no file or larger than `BYTES_LIMIT`.
        """
        path = os.path.join(self._root, self._paths[index])
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):  # to open a pipe would wait for ever
            raise OSError(errno.EINVAL, "not a regular file")
        if state.st_size > BYTES_LIMIT:
            raise OSError(errno.EFBIG, f"a file of {state.st_size:,} bytes, more than {BYTES_LIMIT:,}")
        with open(path, "rb") as file:
            return file.read()


def open_folder(given: Any, *, rescan: bool = False) -> Source | None:
    """Return the images in a folder and below; None if `given` is no folder.

    Raises:
        UserError: no images, or a folder that cannot be read.
    """
    if not isinstance(given, str) or not os.path.isdir(given):
        return None
    root = os.path.abspath(given)
    listing = list_images(root, rescan=rescan)
    if not len(listing.paths):
        packed = open_packed(given, listing.passed_over, rescan=rescan)
        if packed is not None:
            return packed
        raise UserError(no_images(given, listing))
    source = FileSource(given, given, root, listing.paths)
    source.passed_over = listing.passed_over
    return source
