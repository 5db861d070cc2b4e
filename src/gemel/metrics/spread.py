"""Mean and standard error over seeds; no torch, since reports use it too."""

from collections.abc import Sequence
from math import isfinite, sqrt
from statistics import fmean, stdev
from typing import NamedTuple


class Spread(NamedTuple):
    """Mean and standard error of several runs of one setting."""

    mean: float
    error: float | None
    """standard error of the mean; None with one run, or where the mean is not finite"""
    runs: int


def spread_of(values: Sequence[float]) -> Spread:
    """Return m = Σ x / n and s = √(Σ (x - m)² / (n - 1)) / √n.

    >>> spread_of([1.0, 2.0, 3.0]).mean, round(spread_of([1.0, 2.0, 3.0]).error or 0, 4), spread_of([2.0]).error
    (2.0, 0.5774, None)

    Args:
        values: at least one number; of a run that diverged it may be NaN.
    """
    count, mean = len(values), fmean(values)
    return Spread(mean, stdev(values) / sqrt(count) if count > 1 and isfinite(mean) else None, count)
