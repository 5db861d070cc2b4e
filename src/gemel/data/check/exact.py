"""Exact duplicates: the same bytes, or the same pixels."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from gemel.data.check.keep import first_of
from gemel.data.check.measure import Measured
from gemel.data.decode import Unreadable, load
from gemel.data.pixel_values import Pixels
from gemel.data.sources import Source
from gemel.launcher import cores


def same_bytes(measured: Measured, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each row, (n,), the row to keep of those with the same bytes: by digests of 128 bits."""
    groups = np.unique(measured.digests, axis=0, return_inverse=True)[1].reshape(-1)
    return first_of(groups, order)


def alike(measured: Measured, rows: NDArray[np.int64], order: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return pairs (row, row to keep) among `rows` of one size and one thumbnail, which may have the same pixels."""
    first: dict[bytes, int] = {}
    for row in order[np.isin(order, rows)].tolist():
        first.setdefault(_seen(measured, row), row)
    return [(row, kept) for row in rows.tolist() if (kept := first[_seen(measured, row)]) != row]


def same_pixels(source: Source, measured: Measured, pairs: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return those of the pairs (row, row to keep) whose decoded pixels are equal."""
    copies: dict[int, list[int]] = {}
    for row, kept in pairs:
        copies.setdefault(kept, []).append(row)

    def of(kept: int) -> list[tuple[int, int]]:
        pixels = _pixels(source, int(measured.indices[kept]))
        if pixels is None:
            return []
        return [(row, kept) for row in copies[kept] if _equal(pixels, _pixels(source, int(measured.indices[row])))]

    with ThreadPoolExecutor(cores(), "pixels") as pool:
        try:
            return {pair for found in pool.map(of, copies) for pair in found}
        finally:
            pool.shutdown(cancel_futures=True)


def _seen(measured: Measured, row: int) -> bytes:
    """Return a hash of all that a pass has seen of an image's pixels."""
    size = f"{measured.heights[row]} {measured.widths[row]} ".encode()
    return hashlib.sha256(size + measured.thumbnails[row].tobytes()).digest()[:16]


def _pixels(source: Source, index: int) -> Pixels | None:
    try:
        return load(source, index)
    except Unreadable:  # it has vanished since
        return None


def _equal(one: Pixels, two: Pixels | None) -> bool:
    """Grey images equal coloured ones whose channels are the same."""
    if two is None or one.shape[:2] != two.shape[:2]:
        return False
    if one.ndim != two.ndim:
        one, two = (image if image.ndim == 3 else image[..., None] for image in (one, two))
    return bool((one == two).all())
