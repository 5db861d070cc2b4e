"""The images in archives: one table of where each lies, kept in the user's cache until an archive changes."""

import json
import os
import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemel.data.kept_arrays import read_arrays, write_arrays
from gemel.data.listing import ARRAYS, CACHED_FROM, Paths, cache_folder, other_kind
from gemel.data.sources.random_access import RandomAccess
from gemel.hashing import hash_of

_FORMAT = 1  # of the cache file; a new number for a new layout or other rules of what is an image
_JUST_NOW = 100_000_000  # ns; an archive written within a tick of the file system's clock may change again unseen
_COLUMNS = ("archive", "offset", "stored", "length", "method", "checksum")


class Place(NamedTuple):
    """Where a member lies in its archive."""

    archive: int
    """which of the archives"""
    offset: int
    """of its data in a tar, of its header in a zip"""
    stored: int
    """bytes that it takes there"""
    length: int
    """bytes unpacked"""
    method: int = 0
    """zip's number of the compression; 0: none"""
    checksum: int = -1
    """CRC-32 of the unpacked bytes; -1: the archive has none"""


class Found:
    """The members that a scan has met so far."""

    def __init__(self) -> None:
        self.archive = 0
        """number of the archive that is scanned"""
        self.passed_over: Counter[str] = Counter()
        self.labels: dict[tuple[int, bytes], bytes] = {}
        """of samples in webdataset's shards, by archive and key"""
        self._names: list[bytes] = []
        self._is_array: list[bool] = []
        self._places = array("q")

    def add(self, name: bytes, offset: int, stored: int, length: int, method: int = 0, checksum: int = -1) -> None:
        """Take a file of the archive, if it is an image that is not hidden; others are counted."""
        name = name.removeprefix(b"./")
        if name.startswith((b".", b"__MACOSX/")) or b"/." in name:
            return
        kind = other_kind(name)
        if kind and name.rpartition(b".")[2].lower() not in ARRAYS:
            self.passed_over[kind] += 1
            return
        self._is_array.append(bool(kind))
        self._names.append(name)
        self._places.extend((self.archive, offset, stored, length, method, checksum))

    def add_image(self, name: bytes, length: int) -> None:
        """Take an image, whatever it is called."""
        self._is_array.append(False)
        self._names.append(name)
        self._places.extend((self.archive, 0, length, length, 0, -1))

    def table(self) -> "Members":
        """Return the images sorted by name, of several with one name in an archive the last; arrays as in folders."""
        names = np.empty(len(self._names), object)
        names[:] = self._names
        places = np.frombuffer(self._places, np.int64).reshape(-1, len(_COLUMNS))
        is_array = np.array(self._is_array, bool)
        if not is_array.all():
            self.passed_over.update(map(other_kind, names[is_array].tolist()))
            names, places = names[~is_array], places[~is_array]
        keys = list(zip(names.tolist(), places[:, 0].tolist(), strict=True))
        order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
        names, places = names[order], places[order]
        again = np.zeros(len(names), bool)  # of members of one name: extracted, the last one is what is left
        again[:-1] = (names[:-1] == names[1:]) & (places[:-1, 0] == places[1:, 0])
        if again.any():
            self.passed_over["replaced by a later member"] += int(again.sum())
            names, places = names[~again], places[~again]
        labels = None
        if self.labels:
            keys = zip(places[:, 0].tolist(), map(key_of, names), strict=True)
            labels = Paths.of([self.labels.get(key, b"") for key in keys])
        return Members(Paths.of(names.tolist()), places, labels, self.passed_over)


class Members(NamedTuple):
    """The images of one archive or of several, sorted by name."""

    names: Paths
    places: NDArray[np.int64]
    """(N, 6), each row a `Place`"""
    labels: Paths | None
    """what a shard says of each image's class, in words or as a number; empty where it says nothing"""
    passed_over: Counter[str]
    """how many other files there are, by ending"""

    def place(self, index: int) -> Place:
        """Return where an image lies."""
        return Place(*self.places[index].tolist())


def key_of(name: bytes) -> bytes:
    """Return what the members of one sample share, as webdataset has it: the name up to the first dot of its last part.

    >>> key_of(b"a.b/0001.left.png")
    b'a.b/0001'
    """
    folder, slash, last = name.rpartition(b"/")
    return folder + slash + last.partition(b".")[0]


def members_of(
    archives: Sequence[RandomAccess], scan: Callable[[Found, RandomAccess], None], *, rescan: bool
) -> Members:
    """Return the images of archives; the table of many is kept in the user's cache, and made again if one changes.

    Args:
        archives: in their order.
        scan: gives the members of one.
        rescan: make the table again and renew the cache.
    """
    started, file = time.time_ns(), _cache_file(archives)
    known = None if rescan or file is None else _recall(file, archives)
    if known is not None:
        return known
    found = Found()
    for number, archive in enumerate(archives):
        found.archive = number
        scan(found, archive)
    table = found.table()
    lay_still = max(one.stamp.modified for one in archives) < started - _JUST_NOW
    if file is not None and lay_still and len(table.names) > CACHED_FROM:
        _remember(file, archives, table)
    return table


def _cache_file(archives: Sequence[RandomAccess]) -> Path | None:
    folder, name = cache_folder(), hash_of((os.fsencode(one.path) for one in archives), 32)
    return folder and folder / "listings" / f"{name}.members"


def _remember(file: Path, archives: Sequence[RandomAccess], table: Members) -> None:
    arrays = {
        "format": np.int64(_FORMAT),
        "stamps": np.array([one.stamp for one in archives], np.uint64),
        "blob": np.frombuffer(table.names.blob, np.uint8),
        "ends": table.names.ends,
        "places": table.places,
        "passed_over": np.frombuffer(json.dumps(table.passed_over).encode(), np.uint8),
    }
    if table.labels is not None:
        arrays |= {"label_blob": np.frombuffer(table.labels.blob, np.uint8), "label_ends": table.labels.ends}
    write_arrays(file, arrays)


def _recall(file: Path, archives: Sequence[RandomAccess]) -> Members | None:
    """Return the kept table if it is whole and no archive has changed since."""
    arrays = read_arrays(file)
    if arrays is None or arrays["format"] != _FORMAT:
        return None
    if not np.array_equal(arrays["stamps"], np.array([one.stamp for one in archives], np.uint64)):
        return None
    labels = Paths(arrays["label_blob"].tobytes(), arrays["label_ends"]) if "label_ends" in arrays else None
    return Members(
        Paths(arrays["blob"].tobytes(), arrays["ends"]),
        arrays["places"],
        labels,
        Counter(json.loads(arrays["passed_over"].tobytes())),
    )
