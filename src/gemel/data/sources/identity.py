"""Which image is it? The one answer for caches, resumed runs, splits and evaluations.

An image is its file: links, hard links and a path that is listed twice are one image. Where images to fit on and to be
judged by are kept apart, a copy, byte for byte, is the same image too.
"""

# as in folder.py: a name need not be text
# ruff: noqa: PTH123
import hashlib
import os
from collections import Counter
from collections.abc import Hashable, Iterator

import numpy as np
from numpy.typing import NDArray

from gemel.data.sources.base import Source
from gemel.data.sources.parts import Joined
from gemel.hashing import hash_of
from gemel.samples import evenly_spread

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


def version_marks(source: Source) -> NDArray[np.uint64]:
    """Return 64 bits for each image as it is, (N,): the same wherever it stands in a list."""
    marks = (hashlib.sha256(source.version(index)).digest()[:8] for index in range(len(source)))
    return np.frombuffer(b"".join(marks), np.uint64)


def fingerprint(source: Source) -> str:
    """Return hashes of the images wherever they lie, NAMES-CONTENTS; of many, sizes and contents of an even sample."""

    def parts() -> Iterator[bytes]:
        cheap = source.in_memory or source.file_size(0) is not None
        for index in evenly_spread(len(source), SIZES if cheap else CONTENTS).tolist():
            yield str(_size(source, index)).encode()
        for index in evenly_spread(len(source), CONTENTS).tolist():
            yield _content(source, index)

    names = (os.fsencode(source.key(index)) for index in range(len(source)))
    return f"{hash_of(names, 32)}-{hash_of(parts(), 32)}"


def first_listed(source: Source) -> NDArray[np.int64]:
    """Return the indices of the images, each once: the first of several entries that are one file."""
    return np.sort(np.unique(_identities(source), return_index=True)[1])


def groups(source: Source) -> NDArray[np.int64]:
    """Return for each image, (N,), the first index of the same image: of the same file, or of a copy of it.

    Of more than `COMPARED` images the contents are not compared.
    """
    _, first, inverse = np.unique(_identities(source), return_index=True, return_inverse=True)
    found = first[inverse]
    if len(first) > COMPARED:
        return found
    marks: dict[int, tuple[Hashable, ...]] = dict.fromkeys(np.sort(first).tolist(), ())
    for mark in (_size, _middle, _content):  # few images are read as a whole
        marks = {index: (*known, mark(source, index)) for index, known in marks.items()}
        counts = Counter(marks.values())
        marks = {index: known for index, known in marks.items() if counts[known] > 1}
    originals: dict[tuple[Hashable, ...], int] = {}
    copies = {index: originals.setdefault(known, index) for index, known in marks.items()}
    return np.array([copies.get(index, index) for index in found.tolist()], np.int64)


def shared(source: Source, other: Source) -> NDArray[np.bool_]:
    """Return which images of `source`, (N,), are in `other` too: the same files, or copies of them."""
    both = groups(Joined(source, other))
    return np.isin(both[: len(source)], both[len(source) :])


def _identities(source: Source) -> NDArray[np.int64]:
    """64 bits of each image's identity: a million identities would fill the memory."""
    return np.fromiter((hash(source.identity(index)) for index in range(len(source))), np.int64, len(source))


def _size(source: Source, index: int) -> int:
    known = source.file_size(index)
    return len(_bytes(source, index)) if known is None else known


def _middle(source: Source, index: int) -> bytes:
    file = source.file(index)
    if file is None:
        data = _bytes(source, index)
        return hashlib.sha256(data[len(data) // 2 :][:_BLOCK]).digest()
    try:
        with open(file, "rb") as opened:
            opened.seek(os.fstat(opened.fileno()).st_size // 2)
            return hashlib.sha256(opened.read(_BLOCK)).digest()
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
