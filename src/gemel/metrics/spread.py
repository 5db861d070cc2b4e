"""Mean and standard error over seeds; no torch, since reports use it too."""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean, stdev
from typing import NamedTuple


class Spread(NamedTuple):
    """What several runs of one setting found."""

    mean: float
    error: float | None
    """standard error of the mean; None with one run"""
    runs: int


def spread_of(values: Sequence[float]) -> Spread:
    """m = Σ x / n,  s = √(Σ (x - m)² / (n - 1)) / √n.

    >>> spread_of([1.0, 2.0, 3.0]).mean, round(spread_of([1.0, 2.0, 3.0]).error or 0, 4), spread_of([2.0]).error
    (2.0, 0.5774, None)

    Args:
        values: at least one finite number.
    """
    count = len(values)
    return Spread(fmean(values), stdev(values) / sqrt(count) if count > 1 else None, count)
