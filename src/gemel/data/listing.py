"""The images of a folder: found, held in one compact table, and listed once for all in the user's cache folder."""

# pathlib knows no paths of bytes, and a million Path objects fill a gigabyte
# ruff: noqa: PTH110, PTH111, PTH112, PTH113, PTH114, PTH115, PTH116, PTH117, PTH118, PTH120
import hashlib
import heapq
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from gemel.data.kept_arrays import read_arrays, write_arrays
from gemel.errors import UserError

SUFFIXES = frozenset(
    b"jpg jpeg jpe jfif jfi jif pjpeg pjp mpo png apng webp bmp dib tif tiff gif ppm pgm pbm pnm pfm dcm dicom".split()
)
"""endings of the names of images, in capitals or not: all of the formats that `decode` reads"""

ARRAYS = frozenset(b"npy npz".split())
"""endings of arrays, which are images where there are no others: beside photographs they hold something else"""

CACHED_FROM = 10_000
"""Folders with fewer images are listed anew each time: that takes no longer than asking the cache."""

_RUN_FILE = b"run.yaml"  # of a run's folder: what lies there was made from images

_FORMAT = 3  # of the cache file; a new number for a new layout or other rules of what is an image
_JUST_NOW = 100_000_000  # ns; a folder changed within a tick of the file system's clock may change again unseen


class Paths(Sequence[bytes]):
    """Paths in one piece of memory: a million of them are cheap to hold, to pickle and to send to workers.

    Args:
        blob: all paths, one behind the other.
        ends: where each path ends in the blob, (N,).
    """

    def __init__(self, blob: bytes, ends: NDArray[np.int64]) -> None:
        self.blob = blob
        self.ends = ends

    @classmethod
    def of(cls, paths: Sequence[bytes]) -> "Paths":
        """Return the table of these paths, in this order."""
        return cls(b"".join(paths), np.cumsum(np.fromiter(map(len, paths), np.int64, len(paths)), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not 0 <= index < len(self.ends):
            raise IndexError(f"path {index} of {len(self.ends)}")
        return self.blob[self.ends[index - 1] if index else 0 : self.ends[index]]


class Listing(NamedTuple):
    """What a walk through a folder found."""

    paths: Paths
    """images, relative to the folder, sorted"""
    folders: Paths
    """every folder that was read, relative likewise; the folder itself is empty"""
    identities: NDArray[np.uint64]
    """device and inode of each folder, (F, 2)"""
    changed: NDArray[np.int64]
    """time of each folder's last change in ns, (F,)"""
    passed_over: Counter[str]
    """how many other files there are, by ending; links to listed images; folders of gemel's runs"""


def list_images(folder: str, *, rescan: bool = False) -> Listing:
    """List all images in a folder and below, sorted by path: the order never depends on the file system.

    Links to folders are followed; a folder is read once however many ways lead to it, and under its own name
    rather than a link's. Links to images that are listed themselves, folders of gemel's runs, names that start with a
    dot and `lost+found` are left out. A large listing is kept in the user's cache folder and used again as long as no
    folder has changed: files are not asked, so one that was rewritten in place goes unnoticed, which does not alter
    the listing.

    Args:
        folder: the folder, absolute.
        rescan: list again and renew the cache.

    Raises:
        UserError: a folder may not be read.
    """
    root = os.fsencode(folder)
    file = _cache_file(root)
    known = None if rescan or file is None else _recall(file, root)
    if known is not None:
        return known
    started = time.time_ns()
    listing = _walk(root)
    # Only folders that lay still when the walk began: a change in the same tick would leave no trace in their time.
    if file is not None and len(listing.paths) > CACHED_FROM and listing.changed.max() < started - _JUST_NOW:
        _remember(file, root, listing)
    return listing


def cache_folder() -> Path | None:
    """Return gemel's folder in the user's cache ($XDG_CACHE_HOME or ~/.cache), existing or not; None without a home."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(folder):  # the XDG specification says: ignore relative ones
        folder = os.path.expanduser("~/.cache")
    return Path(folder, "gemel") if os.path.isabs(folder) else None


def printable(path: str) -> str:
    r"""Return a path that every table and terminal can take: bytes of a name that are not UTF-8 become `\udcXX`.

    >>> printable("\udcfcber.jpg")
    '\\udcfcber.jpg'
    """
    return path.encode("utf-8", "backslashreplace").decode()


def other_kind(name: bytes) -> str:
    """Return by what a file that is no image is counted, its ending; empty for an image.

    >>> other_kind(b"a.JPG"), other_kind(b"a.Txt"), other_kind(b"README")
    ('', '.txt', 'no ending')
    """
    _, dot, suffix = name.rpartition(b".")
    if dot and suffix.lower() in SUFFIXES:
        return ""
    is_ending = dot and suffix.isalnum() and not suffix.isdigit() and len(suffix) <= 10
    return f".{suffix.decode().lower()}" if is_ending else "no ending"


_ARRAY_KINDS = frozenset(f".{suffix.decode()}" for suffix in ARRAYS)


def images_or_arrays(images: list[bytes], arrays: list[bytes], passed_over: Counter[str]) -> list[bytes]:
    """Return the images; where there are none the arrays, which are else counted among the other files."""
    if not images:
        return arrays
    passed_over.update(map(other_kind, arrays))
    return images


class _Walk:
    """The state of one walk: folders to be read, real ones before links, each group by path."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.waiting: list[tuple[bool, bytes]] = [(False, b"")]
        self.found: list[bytes] = []
        self.links: list[bytes] = []
        self.arrays: list[bytes] = []
        self.entered: dict[tuple[int, int], tuple[bytes, int]] = {}
        self.passed_over: Counter[str] = Counter()
        self.mistakes: list[str] = []
        self.real: dict[bytes, bytes] = {}

    def step(self) -> None:
        """Read the next folder."""
        linked, folder = heapq.heappop(self.waiting)
        path = os.path.join(self.root, folder)
        try:
            state = os.stat(path)
            if (state.st_dev, state.st_ino) in self.entered:
                return
            with os.scandir(path) as entries:
                # The time is taken before the reading: a change in between shows as a newer time at the next start.
                self.entered[state.st_dev, state.st_ino] = folder, state.st_mtime_ns
                self.take(folder and folder + b"/", linked, list(entries))
        except FileNotFoundError:
            return  # it vanished after its parent was read
        except OSError as error:
            self.mistakes.append(
                f"the folder {printable(os.fsdecode(path))} cannot be read: {error.strerror}; allow reading, or move it"
            )

    def take(self, prefix: bytes, linked: bool, entries: Sequence[os.DirEntry[bytes]]) -> None:
        """Sort one folder's entries into folders, images and others."""
        if prefix and any(entry.name == _RUN_FILE for entry in entries):
            self.passed_over["folder of a gemel run"] += 1
            return
        for entry in entries:
            name = entry.name
            if name.startswith(b"."):
                continue
            is_link = entry.is_symlink()
            if os.path.isdir(entry.path) if is_link else entry.is_dir():
                if name != b"lost+found":  # made by the file system, for the administrator alone
                    heapq.heappush(self.waiting, (linked or is_link, prefix + name))
                continue
            kind = other_kind(name)
            if kind in _ARRAY_KINDS:
                self.arrays.append(prefix + name)
            elif kind:
                self.passed_over[kind] += 1
            elif os.path.isfile(entry.path) if is_link else entry.is_file():
                (self.links if is_link else self.found).append(prefix + name)
            elif is_link and not os.path.exists(entry.path):
                self.found.append(prefix + name)  # a link that leads nowhere is reported as unreadable
            else:
                self.passed_over["pipe or device"] += 1

    def add_links(self) -> None:
        """Take the links to images, without those whose target is listed itself: an image is listed once."""
        root = os.path.join(os.path.realpath(self.root), b"")
        listed = {*self.found, *self.links} if self.links else set[bytes]()
        for link in self.links:
            targets = self._targets(os.path.join(self.root, link))
            if any(target.startswith(root) and target[len(root) :] in listed for target in targets):
                self.passed_over["link to a listed image"] += 1
            else:
                self.found.append(link)

    def _targets(self, path: bytes) -> Iterator[bytes]:
        """Each file or link that a link leads to, one after the other, in its real folder."""
        with suppress(OSError):  # it vanished
            while os.path.islink(path):
                folder, name = os.path.split(os.path.join(os.path.dirname(path), os.readlink(path)))
                if folder not in self.real:
                    self.real[folder] = os.path.realpath(folder)
                path = os.path.join(self.real[folder], name)
                yield path


def _walk(root: bytes) -> Listing:
    walk = _Walk(root)
    while walk.waiting:
        walk.step()
    if walk.mistakes:
        raise UserError(*walk.mistakes)
    walk.add_links()
    found = images_or_arrays(walk.found, walk.arrays, walk.passed_over)
    found.sort()
    return Listing(
        paths=Paths.of(found),
        folders=Paths.of([folder for folder, _ in walk.entered.values()]),
        identities=np.array(list(walk.entered), np.uint64).reshape(-1, 2),
        changed=np.array([changed for _, changed in walk.entered.values()], np.int64),
        passed_over=walk.passed_over,
    )


def _cache_file(root: bytes) -> Path | None:
    folder = cache_folder()
    return folder and folder / "listings" / f"{hashlib.sha256(root).hexdigest()[:32]}.listing"


def _remember(file: Path, root: bytes, listing: Listing) -> None:
    arrays = {
        "format": np.int64(_FORMAT),
        "root": np.frombuffer(root, np.uint8),
        "blob": np.frombuffer(listing.paths.blob, np.uint8),
        "ends": listing.paths.ends,
        "folder_blob": np.frombuffer(listing.folders.blob, np.uint8),
        "folder_ends": listing.folders.ends,
        "identities": listing.identities,
        "changed": listing.changed,
        "passed_over": np.frombuffer(json.dumps(listing.passed_over).encode(), np.uint8),
    }
    write_arrays(file, arrays)


def _recall(file: Path, root: bytes) -> Listing | None:
    """Return the cached listing if it is whole and no folder has changed since."""
    arrays = read_arrays(file)
    if arrays is None or arrays["format"] != _FORMAT or arrays["root"].tobytes() != root:
        return None
    listing = Listing(
        paths=Paths(arrays["blob"].tobytes(), arrays["ends"]),
        folders=Paths(arrays["folder_blob"].tobytes(), arrays["folder_ends"]),
        identities=arrays["identities"],
        changed=arrays["changed"],
        passed_over=Counter(json.loads(arrays["passed_over"].tobytes())),
    )
    return listing if _is_unchanged(root, listing) else None


def _is_unchanged(root: bytes, listing: Listing) -> bool:
    try:
        for folder, (device, inode), changed in zip(
            listing.folders, listing.identities.tolist(), listing.changed.tolist(), strict=True
        ):
            state = os.stat(os.path.join(root, folder))
            if (state.st_dev, state.st_ino, state.st_mtime_ns) != (device, inode, changed):
                return False
    except OSError:
        return False
    return True
