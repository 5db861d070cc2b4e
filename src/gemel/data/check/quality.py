"""Images that show little: blurred, dark, nearly one colour, much smaller or longer than the others."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemel.data.check.measure import Measured

BLURRED = 0.05, 1 / 4
"""`sharpness` of a blurred image: below both, the first as it is, the second times the dataset's median"""

DARK = 1 / 4, 1 / 2
"""brightness of a dark image, likewise"""

SMALL = 1 / 4
"""shorter side of an image that is small among the others, times their median"""

LONG = 3.0, 2.0
"""longer side over shorter side of an odd shape: above both, the first as it is, the second times the median"""


class Flagged(NamedTuple):
    """Images that were found, and the number that says so."""

    rows: NDArray[np.int64]
    values: NDArray[np.float64]


def blurred(measured: Measured) -> Flagged:
    """Return images whose finest detail is missing at a size of about 128 pixels; the value is their sharpness."""
    return _below(measured.sharpness, *BLURRED)


def dark(measured: Measured) -> Flagged:
    """Return images whose bright parts are dark, and darker than is usual; the value is their brightness."""
    return _below(np.where(measured.is_uniform, np.nan, measured.brightness), *DARK)


def nearly_uniform(measured: Measured) -> Flagged:
    """Return images of nearly one colour; the value is the standard deviation of luminance, levels of 255."""
    rows = np.flatnonzero(measured.is_uniform)
    return Flagged(rows, measured.thumbnails[rows].std((1, 2), dtype=np.float64))


def small(measured: Measured) -> Flagged:
    """Return images much smaller than the others; the value is the shorter side, pixels."""
    sides = np.minimum(measured.heights, measured.widths).astype(np.float64)
    return _below(sides, np.inf, SMALL)


def long(measured: Measured) -> Flagged:
    """Return images much longer or higher than the others; the value is the longer side over the shorter one."""
    sides = np.stack([measured.heights, measured.widths])
    ratio = sides.max(0) / sides.min(0)
    limit = max(LONG[0], LONG[1] * float(np.median(ratio))) if len(ratio) else 0.0
    rows = np.flatnonzero(ratio > limit)
    return Flagged(rows, ratio[rows])


def _below(values: NDArray[np.floating], absolute: float, share: float) -> Flagged:
    """Return values below a bound and below a share of the median: what holds for most images is how they are."""
    known = values[np.isfinite(values)]
    if not len(known):
        return Flagged(np.empty(0, np.int64), np.empty(0))
    rows = np.flatnonzero(values < min(absolute, share * float(np.median(known))))
    return Flagged(rows, values[rows].astype(np.float64))
