"""Into which parts a class falls: halves, and halves of these, by k-means on the features of its images."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import Tensor

SMALLEST = 6
"""images of a class that is split"""
MOST_CLASSES = 200
"""classes that are split, the largest ones"""
SAMPLE = 4000
"""images of a class that its halves are found by"""
DEPTH = 2
"""halves of halves"""


def subclusters(features: Tensor, classes: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return the part of its class that each image is in, (N,): bit 0 tells its half, bit 1 the half of that half;
    a bit is set in the smaller one.

    Args:
        features: (N, D), of one scale.
        classes: (N,) of the images.
    """
    rows, parts = features.numpy(), np.zeros(len(classes), np.uint8)
    numbers, counts = np.unique(classes, return_counts=True)
    for number in numbers[np.argsort(-counts, kind="stable")[:MOST_CLASSES]]:
        _halve(rows, np.flatnonzero(classes == number), parts, 0)
    return parts


def _halve(rows: NDArray[np.float32], members: NDArray[np.int64], parts: NDArray[np.uint8], depth: int) -> None:
    if depth == DEPTH or len(members) < SMALLEST:
        return
    sample = rows[members[:: len(members) // SAMPLE + 1]].astype(np.float64)
    centre = sample.mean(0)
    variances, directions = np.linalg.eigh(np.cov(sample.T, bias=True))
    if not variances[-1] > 1e-12:  # all alike
        return
    step = directions[:, -1] * np.sqrt(variances[-1])
    start = np.stack([centre - step, centre + step])
    model = KMeans(2, init=cast(Any, start), n_init=cast(Any, 1), max_iter=50).fit(sample)
    halves = np.asarray(model.predict(rows[members].astype(np.float64)))
    smaller = int(np.bincount(halves, minlength=2).argmin())
    parts[members[halves == smaller]] |= np.uint8(1 << depth)
    for half in (members[halves != smaller], members[halves == smaller]):
        _halve(rows, half, parts, depth + 1)
