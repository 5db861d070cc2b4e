"""Which one of several duplicates to keep: the larger, then the less compressed, then the first."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gemel.data.check.measure import Measured


def preference(measured: Measured) -> NDArray[np.int64]:
    """Return all rows, those to keep first: by pixels, then by bytes of the file, then as they are listed."""
    pixels = measured.heights * measured.widths
    return np.lexsort((np.arange(len(measured)), -measured.bytes, -pixels))


def first_of(groups: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each row, (n,), the preferred row of its group.

    Args:
        groups: (n,) number of the group of each row.
        order: (n,) rows, the preferred ones first.
    """
    numbers, first = np.unique(groups[order], return_index=True)
    return order[first][np.searchsorted(numbers, groups)]


def covered(pairs: Iterable[tuple[int, int]], order: NDArray[np.int64]) -> dict[int, int]:
    """Return the rows to leave out, each with the row to keep that it is a pair with.

    An image is kept unless it is a pair with one that is preferred to it and kept: no chain of pairs leaves out an
    image that is like none of those kept.

    Args:
        pairs: of rows.
        order: (n,) rows, the preferred ones first.
    """
    partners: dict[int, list[int]] = {}
    for one, two in pairs:
        partners.setdefault(one, []).append(two)
        partners.setdefault(two, []).append(one)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    left_out: dict[int, int] = {}
    for row in sorted(partners, key=lambda one: rank[one]):
        if row not in left_out:
            for other in partners[row]:
                if other not in left_out and rank[other] > rank[row]:
                    left_out[other] = row
    return left_out
