"""A file that is read at any place, from any thread, and that must not change meanwhile."""

# as in folder.py: a name need not be text
# ruff: noqa: PTH116
import errno
import os
import threading
import weakref
from typing import Any, NamedTuple, Self

BYTES_LIMIT = 600_000_000
"""Larger files are not read: the most pixels that are decoded take as many, in 16 bits and without compression."""


class Stamp(NamedTuple):
    """Which file it is, and in which state."""

    device: int
    inode: int
    size: int
    modified: int
    """ns"""
    changed: int
    """ns; the system sets it, and no archive can restore it"""

    @classmethod
    def of(cls, path: str | int) -> Self:
        """Return the stamp of a path or of an open file.

        Raises:
            OSError: there is no such file.
        """
        state = os.stat(path)
        return cls(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


class RandomAccess:
    """A file that is opened once a process, at its first use; small to send to other processes.

    Args:
        path: absolute.
        stamp: of the file as it was listed; None: as it is now.

    Raises:
        OSError: there is no such file.
    """

    def __init__(self, path: str, stamp: Stamp | None = None) -> None:
        self.path = path
        self.stamp = Stamp.of(path) if stamp is None else stamp
        self._handle: int | None = None
        self._lock = threading.Lock()

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset` on; fewer at the end of the file.

        Raises:
            OSError: it has vanished, has changed since it was listed, or `count` is above `BYTES_LIMIT`.
        """
        if count > BYTES_LIMIT:
            raise OSError(errno.EFBIG, f"{count:,} bytes, more than {BYTES_LIMIT:,}")
        handle = self._opened()
        self.check(Stamp.of(handle))
        if hasattr(os, "pread"):
            return os.pread(handle, count, offset)
        with self._lock:
            os.lseek(handle, offset, os.SEEK_SET)
            return os.read(handle, count)

    def check(self, now: Stamp) -> None:
        """Compare the file with what it was; that another name leads to it, or none, does no harm.

        Raises:
            OSError: it has changed since it was listed.
        """
        if now[:4] != self.stamp[:4]:
            raise OSError(errno.EIO, f"{os.path.basename(self.path)} has changed since it was listed; start again")  # noqa: PTH119

    @property
    def version(self) -> bytes:
        """Path, size and times, for keys of caches."""
        _, _, size, modified, changed = self.stamp
        return os.fsencode(os.path.realpath(self.path)) + f" {size} {modified} {changed}".encode()

    def _opened(self) -> int:
        with self._lock:
            if self._handle is None:
                self._handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
                weakref.finalize(self, os.close, self._handle)
            return self._handle

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "stamp": self.stamp}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _handle=None, _lock=threading.Lock())
