"""An epoch's order in which all clusters are equally frequent: DeepCluster's sampler, as meant and as released."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def without_gaps(labels: Tensor) -> Tensor:
    """Return labels numbered anew in their order, so that none is empty."""
    return labels.unique(return_inverse=True)[1]


def sampled_order(
    labels: NDArray[np.int64], random: np.random.RandomState, *, released: bool = False
) -> NDArray[np.int64]:
    """Return an epoch's order of rows in which all clusters are equally frequent.

    Of each, ⌊N / clusters⌋ + 1 rows are drawn, with repeats where it has no more; they are shuffled and cut to N.

    Args:
        labels: (N,), from 0 without gaps.
        random: numpy's legacy generator, as the released code has.
        released: the rows that the released loader reads. Its dataset is in the order of clusters, and it takes the
            numbers of images for positions there, so that it samples nearly plainly.
    """
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    each = len(labels) // len(members) + 1
    drawn = np.concatenate([random.choice(rows, each, replace=len(rows) <= each) for rows in members])
    random.shuffle(drawn)
    drawn = drawn[: len(labels)]
    return np.concatenate(members)[drawn] if released else drawn
