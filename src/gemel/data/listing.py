"""The images of a folder: found, kept as one compact table, and remembered in the user's cache folder."""

# pathlib knows no paths of bytes, and a million Path objects fill a gigabyte
# ruff: noqa: PTH105, PTH110, PTH111, PTH112, PTH113, PTH116, PTH117, PTH118
import hashlib
import heapq
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from gemel.errors import UserError

SUFFIXES = frozenset({b"jpg", b"jpeg", b"png", b"webp", b"bmp", b"tif", b"tiff", b"gif", b"ppm", b"pgm"})
"""Names that end so, in capitals or not, are images."""

CACHED_FROM = 10_000
"""Folders with fewer images are listed anew each time: that takes no longer than asking the cache."""

_FORMAT = 1  # of the cache file; a new number for a new layout or other rules of what is an image
_JUST_NOW = 100_000_000  # ns; a folder changed within a tick of the file system's clock may change again unseen


class Paths(Sequence[bytes]):
    """A million paths in one piece of memory: cheap to hold, to pickle and to share with forked workers.

    Args:
        blob: all paths, one behind the other.
        ends: where each path ends in the blob, (N,).
    """

    def __init__(self, blob: bytes, ends: NDArray[np.int64]) -> None:
        self.blob = blob
        self.ends = ends

    @classmethod
    def of(cls, paths: Sequence[bytes]) -> "Paths":
        """The table of these paths, in this order."""
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
    others: Counter[str]
    """how many other files there are, by ending"""


def list_images(folder: str, *, rescan: bool = False) -> Listing:
    """All images in a folder and below, sorted by path, so that the order never depends on the file system.

    Links to folders are followed; a folder is read once however many ways lead to it, and under its own name
    rather than a link's. Names that start with a dot and `lost+found` are left out. A large listing is kept in
    the user's cache folder and used again as long as no folder has changed: only the folders are asked, so a
    file that was rewritten in place goes unnoticed, which does not alter the listing.

    Args:
        folder: the folder, absolute.
        rescan: list anew and renew the cache.

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
    """gemel's folder in the user's cache ($XDG_CACHE_HOME or ~/.cache), existing or not; None without a home."""
    place = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(place):  # the XDG specification says: ignore relative ones
        place = os.path.expanduser("~/.cache")
    return Path(place, "gemel") if os.path.isabs(place) else None


def printable(path: str) -> str:
    r"""A path that every table and terminal can take: bytes of a name that are not UTF-8 become `\udcXX`.

    >>> printable("\udcfcber.jpg")
    '\\udcfcber.jpg'
    """
    return path.encode("utf-8", "backslashreplace").decode()


class _Walk:
    """The state of one walk: folders to be read, real ones before links, each group by path."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.waiting: list[tuple[bool, bytes]] = [(False, b"")]
        self.found: list[bytes] = []
        self.entered: dict[tuple[int, int], tuple[bytes, int]] = {}
        self.others: Counter[str] = Counter()
        self.mistakes: list[str] = []

    def step(self) -> None:
        """Read the next folder."""
        linked, folder = heapq.heappop(self.waiting)
        place = os.path.join(self.root, folder)
        try:
            state = os.stat(place)
            if (state.st_dev, state.st_ino) in self.entered:
                return
            with os.scandir(place) as entries:
                # The time is taken before the reading: a change in between shows as a newer time at the next start.
                self.entered[state.st_dev, state.st_ino] = folder, state.st_mtime_ns
                self.take(folder and folder + b"/", linked, entries)
        except FileNotFoundError:
            return  # it vanished after its parent was read
        except OSError as error:
            self.mistakes.append(
                f"the folder {printable(os.fsdecode(place))} cannot be read: {error.strerror}; allow it or take it away"
            )

    def take(self, prefix: bytes, linked: bool, entries: Iterable[os.DirEntry[bytes]]) -> None:
        """Sort one folder's entries into folders, images and others."""
        for entry in entries:
            name = entry.name
            if name.startswith(b"."):
                continue
            is_link = entry.is_symlink()
            if os.path.isdir(entry.path) if is_link else entry.is_dir():
                if name != b"lost+found":  # made by the file system, for the administrator alone
                    heapq.heappush(self.waiting, (linked or is_link, prefix + name))
                continue
            _, dot, suffix = name.rpartition(b".")
            if dot and suffix.lower() in SUFFIXES and (entry.is_file() if not is_link else _may_be_file(entry.path)):
                self.found.append(prefix + name)
            else:
                self.others[printable(os.fsdecode(dot + suffix.lower())) if dot else "no ending"] += 1


def _walk(root: bytes) -> Listing:
    walk = _Walk(root)
    while walk.waiting:
        walk.step()
    if walk.mistakes:
        raise UserError(*walk.mistakes[:10])
    walk.found.sort()
    return Listing(
        paths=Paths.of(walk.found),
        folders=Paths.of([folder for folder, _ in walk.entered.values()]),
        identities=np.array(list(walk.entered), np.uint64).reshape(-1, 2),
        changed=np.array([changed for _, changed in walk.entered.values()], np.int64),
        others=walk.others,
    )


def _may_be_file(path: bytes) -> bool:
    """Whether a link leads to a file; one that leads nowhere counts, so that it is reported and not passed over."""
    return os.path.isfile(path) or not os.path.exists(path)


def _cache_file(root: bytes) -> Path | None:
    place = cache_folder()
    return place and place / "listings" / f"{hashlib.sha256(root).hexdigest()[:32]}.listing"


def _remember(file: Path, root: bytes, listing: Listing) -> None:
    """Write the cache: a digest of 32 bytes, then an npz; in one go, and without a word where that is not possible."""
    content = BytesIO()
    np.savez(
        content,
        format=np.int64(_FORMAT),
        root=np.frombuffer(root, np.uint8),
        blob=np.frombuffer(listing.paths.blob, np.uint8),
        ends=listing.paths.ends,
        folder_blob=np.frombuffer(listing.folders.blob, np.uint8),
        folder_ends=listing.folders.ends,
        identities=listing.identities,
        changed=listing.changed,
    )
    data = content.getvalue()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(_digest(data) + data)
        os.replace(name, file)
    except OSError:
        Path(name).unlink(missing_ok=True)


def _recall(file: Path, root: bytes) -> Listing | None:
    """The cached listing if it is whole and no folder has changed since."""
    try:
        stored = file.read_bytes()
    except OSError:
        return None
    data = stored[32:]
    if stored[:32] != _digest(data):
        return None
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        if arrays["format"] != _FORMAT or arrays["root"].tobytes() != root:
            return None
        listing = Listing(
            paths=Paths(arrays["blob"].tobytes(), arrays["ends"]),
            folders=Paths(arrays["folder_blob"].tobytes(), arrays["folder_ends"]),
            identities=arrays["identities"],
            changed=arrays["changed"],
            others=Counter(),
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


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()
