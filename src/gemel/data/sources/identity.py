"""Which image is it? The one answer for caches, resumed runs, splits and evaluations.

Within a source an image is its file: links, hard links and a path that is listed twice are one image. Between two
sources a copy, byte for byte, is the same image too.
"""

# as in folder.py: a name need not be text
# ruff: noqa: PTH116, PTH123
import hashlib
import os
from collections.abc import Callable, Hashable, Iterator

import numpy as np
from numpy.typing import NDArray

from gemel.data.sources.base import Source
from gemel.hashing import hash_of

SIZES = 100_000
"""images whose size goes into a fingerprint, evenly spaced: a million files take seconds to be asked"""

CONTENTS = 1_000
"""images whose content does"""

COMPARED = 200_000
"""images whose contents are compared, at most: of more, files are compared"""

_BLOCK = 4096  # bytes of a file's middle by which most files of one size differ


def version_key(source: Source) -> str:
    """Return a hash of all images as they are: another one where a file was moved, replaced or changed."""
    return hash_of(source.version(index) for index in range(len(source)))


def fingerprint(source: Source) -> str:
    """Return a hash of the images wherever they lie: of names, sizes and contents; of many, of an even sample."""

    def parts() -> Iterator[bytes]:
        for index in range(len(source)):
            yield os.fsencode(source.key(index))
        for index in _spread(len(source), SIZES):
            yield str(_size(source, index)).encode()
        for index in _spread(len(source), CONTENTS):
            yield _content(source, index)

    return hash_of(parts())


def first_listed(source: Source) -> NDArray[np.int64]:
    """Return the indices of the images, each once: the first of several entries that are one file."""
    return np.sort(np.unique(_identities(source), return_index=True)[1])


def shared(source: Source, other: Source) -> NDArray[np.bool_]:
    """Return which images of `source`, (N,), are in `other` too: the same files, or copies of them."""
    found = np.isin(_identities(source), _identities(other))
    own, others = np.flatnonzero(~found).tolist(), list(range(len(other)))
    marks: tuple[Callable[[Source, int], Hashable], ...] = (_size, _middle, _content)
    for mark in marks:
        if mark is not _size and len(own) + len(others) > COMPARED:
            return found
        own_marks = [mark(source, index) for index in own]
        other_marks = [mark(other, index) for index in others]
        both = set(own_marks).intersection(other_marks)
        own = [index for index, value in zip(own, own_marks, strict=True) if value in both]
        others = [index for index, value in zip(others, other_marks, strict=True) if value in both]
    found[own] = True
    return found


def _identities(source: Source) -> NDArray[np.int64]:
    """64 bits of each image's identity: a million identities would fill the memory."""
    return np.fromiter((hash(source.identity(index)) for index in range(len(source))), np.int64, len(source))


def _spread(count: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64)).tolist()


def _size(source: Source, index: int) -> int:
    """Bytes; -1 for a file that cannot be asked."""
    file = source.file(index)
    if file is None:
        return len(_bytes(source, index))
    try:
        return os.stat(file).st_size
    except OSError:
        return -1


def _middle(source: Source, index: int) -> bytes:
    file = source.file(index)
    if file is None:
        data = _bytes(source, index)
        return data[len(data) // 2 :][:_BLOCK]
    try:
        with open(file, "rb") as opened:
            opened.seek(os.fstat(opened.fileno()).st_size // 2)
            return opened.read(_BLOCK)
    except OSError:
        return os.fsencode(file)  # like no other


def _content(source: Source, index: int) -> bytes:
    return hashlib.sha256(_bytes(source, index)).digest()


def _bytes(source: Source, index: int) -> bytes:
    try:
        data = source.read(index)
    except OSError:
        return b""
    return data if isinstance(data, bytes) else str(data.shape).encode() + data.tobytes()
