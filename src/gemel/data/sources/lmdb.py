"""Images in an LMDB database: each value the bytes of one, by its key."""

# as in folder.py: a name need not be text
# ruff: noqa: PTH100, PTH112, PTH113, PTH118, PTH122
import errno
import os
import threading
from collections.abc import Hashable
from typing import Any

from gemel.data.listing import printable
from gemel.data.messages import counted
from gemel.data.reasons import starts_as_image
from gemel.data.sources.base import Source
from gemel.data.sources.members import Found, Members, members_of
from gemel.data.sources.random_access import RandomAccess, Stamp
from gemel.errors import UserError, brief
from gemel.extras import extra

DATA = "data.mdb"
"""the file of a database that is a folder"""

ENDINGS = (".lmdb", ".mdb")


class LmdbSource(Source):
    """Values of a database.

    Args:
        name: as the user gave it.
        place: the folder or the file, absolute.
        data: the database's file.
        members: the keys of the images.
    """

    has_folders = True

    def __init__(self, name: str, place: str, data: RandomAccess, members: Members) -> None:
        super().__init__(name)
        self._place, self._data, self._members = place, data, members
        self._version = data.version

    def __len__(self) -> int:
        return len(self._members.names)

    def path(self, index: int) -> str:
        """Return the database as it was given, and the key."""
        return f"{self.name}/{self.key(index)}"

    def key(self, index: int) -> str:
        """Return the image's key; what is not UTF-8 as it is shown."""
        return os.fsdecode(self._members.names[index])

    @property
    def folders(self) -> list[str]:
        """The database, as if it were a folder."""
        return ["", self.name]

    def file_size(self, index: int) -> int:
        """Return the bytes of the value."""
        return self._members.place(index).length

    def identity(self, index: int) -> Hashable:
        """Return the database's number on its disk, and the key."""
        return *self._data.stamp[:2], self._members.names[index]

    def version(self, index: int) -> bytes:
        """Return the database's path, size and times, and the key."""
        return self._version + b" " + self._members.names[index]

    def read(self, index: int) -> bytes:
        """Return the value.

        Raises:
            OSError: the key is gone, or the database has changed since it was opened.
        """
        self._data.check(Stamp.of(self._data.path))
        lmdb = extra("lmdb", "formats", self.name)
        try:
            with _environment(self._place, self._data.stamp).begin() as transaction:
                value = transaction.get(self._members.names[index])
        except lmdb.Error as error:
            raise OSError(errno.EIO, f"damaged database: {brief(str(error))}") from error
        if value is None:
            raise FileNotFoundError
        return value


def open_lmdb_file(given: Any) -> Source | None:
    """Return the images of a database that is one file, or a folder called .lmdb; None if `given` is something else.

    Raises:
        UserError: it is damaged, or holds no images.
    """
    if not isinstance(given, str) or os.path.splitext(given)[1].lower() not in ENDINGS:
        return None
    data = given if os.path.isfile(given) else os.path.join(given, DATA)
    return lmdb_source(given, data, rescan=False) if os.path.isfile(data) else None


def lmdb_source(name: str, data: str, *, rescan: bool) -> Source:
    """Return the images of a database.

    Args:
        name: as the user gave it.
        data: its file.
        rescan: look for the keys again.

    Raises:
        UserError: the package lmdb is missing, or as `open_lmdb_file`.
    """
    lmdb, place = extra("lmdb", "formats", name), os.path.abspath(name)

    def scan(found: Found, archive: RandomAccess) -> None:
        try:
            with _environment(place, archive.stamp).begin(buffers=True) as transaction:
                for key, value in transaction.cursor():
                    if starts_as_image(bytes(value[:132])):
                        found.add_image(bytes(key), len(value))
                    else:
                        found.passed_over["value that is no image"] += 1
        except lmdb.Error as error:
            raise UserError(f"{printable(name)} can't be read as LMDB: {brief(str(error))}") from error

    members = members_of([RandomAccess(os.path.abspath(data))], scan, rescan=rescan)
    if not len(members.names):
        what = counted(members.passed_over) or "nothing"
        raise UserError(f"{printable(name)} holds {what}; each value must be the bytes of an image file")
    source = LmdbSource(name, place, RandomAccess(os.path.abspath(data)), members)
    source.passed_over = members.passed_over
    return source


_lock = threading.Lock()
_environments: dict[str, tuple[int, Stamp, Any]] = {}
"""of this process, by path: LMDB refuses to open a database twice, and one that was opened before a fork"""


def _environment(place: str, stamp: Stamp) -> Any:
    lmdb = extra("lmdb", "formats", place)
    with _lock:
        process, known, opened = _environments.get(place, (0, None, None))
        if process != os.getpid() or known != stamp:
            if opened is not None and process == os.getpid():
                opened.close()
            is_folder = os.path.isdir(place)
            opened = lmdb.open(place, subdir=is_folder, readonly=True, lock=False, readahead=False, max_spare_txns=16)
            _environments[place] = os.getpid(), stamp, opened
        return opened
