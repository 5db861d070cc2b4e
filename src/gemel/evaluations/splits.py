"""Which images are held out where there is no test set: stratified, by a hash of the path."""

import hashlib
import os

import numpy as np
from numpy.typing import NDArray

from gemel.data.sources import FileSource, Source

HOLD_OUT = "80/20 of each class by SHA-256 of the path"
"""how `hold_out` splits, for a result's settings"""


def hold_out(source: Source, share: float = 0.2) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places to fit on and places to judge by; images of unknown label are in neither.

    In each class the images whose path has the smallest hash are held out: `share` of them, rounded, at least one
    where the class has two, never all. An image stays where it is when others come or go, but at the border, and in
    whatever order they are listed. Without labels all images are one class.

    Args:
        source: the images; paths count from the folder, so that the folder may be moved.
        share: of each class, 0..1.

    Returns:
        train and test places, each sorted.
    """
    labels = np.zeros(len(source), np.int64) if source.labels is None else source.labels
    hashes = np.array([_hash(source, place) for place in range(len(source))], np.uint64)
    held: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for label in np.unique(labels[labels >= 0]):
        places = np.flatnonzero(labels == label)
        count = min(max(round(share * len(places)), 1 if share > 0 else 0), len(places) - 1)
        held.append(places[np.argsort(hashes[places], kind="stable")][:count])
    test = np.sort(np.concatenate(held))
    return np.setdiff1d(np.flatnonzero(labels >= 0), test), test


def stable_path(source: Source, place: int) -> str:
    """The image's path below its folder, or its name in a data set: the same wherever the folder lies."""
    source, place = source.origin(place)
    return source.relative_path(place) if isinstance(source, FileSource) else source.path(place)


def _hash(source: Source, place: int) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(stable_path(source, place))).digest()[:8], "big")
