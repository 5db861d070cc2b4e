"""A folder of images."""

# pathlib knows no paths of bytes, and shows "./photos" otherwise than the user gave it
# ruff: noqa: PTH100, PTH116, PTH118, PTH123
import errno
import os
import stat

from gemel.data.listing import Paths, list_images
from gemel.data.messages import no_images
from gemel.data.sources.base import Source
from gemel.errors import UserError

BYTES_LIMIT = 600_000_000
"""Larger files are not read: the most pixels that are decoded take as many, in 16 bits and without compression."""


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


def open_folder(given: str, rescan: bool) -> Source:
    """Open a folder, searched recursively."""
    root = os.path.abspath(given)
    listing = list_images(root, rescan=rescan)
    if not len(listing.paths):
        raise UserError(no_images(given, listing))
    return FileSource(given, given, root, listing.paths)
