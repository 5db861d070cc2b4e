"""Room for every image: places of a layout moved apart until pictures can lie side by side."""

import numpy as np
from numpy.typing import NDArray

from gemel.data.compiled import compiled

FILLED = 0.5
"""share of the map that the images' discs take"""
ROUNDS = 60


def spread(places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return places (N, 2) in the unit square, moved apart where images lie closer than there is room for.

    Layouts leave most of a map empty and pile images up elsewhere. Here each image is a disc, all discs together take
    `FILLED` of the square, and discs that overlap push each other away; who is near whom hardly changes.
    """
    radius = np.sqrt(FILLED / (np.pi * max(len(places), 1)))
    # what lies near on the map lies near in memory, which saves a third of the time
    order = np.lexsort((places // (2 * radius)).T)
    moved = places[order].astype(np.float64)
    # from small discs to whole ones: what lies in one heap unfolds from its rim
    for turn in range(1, ROUNDS + 1):
        _push(moved, 2 * radius * min(1.0, 2 * turn / ROUNDS))
    found = np.empty_like(moved)
    found[order] = moved
    return to_unit(found)


def to_unit(places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Move and scale places so that they fill the unit square along their longer side, the other one centred."""
    low, high = places.min(0), places.max(0)
    side = max(float((high - low).max()), 1e-9)
    return ((places - (low + high) / 2) / side + 0.5).clip(0, 1).astype(np.float32)


def _push(places: NDArray[np.float64], apart: float) -> None:
    """Move pairs that are closer than `apart` half the way to that distance."""
    cells = ((places - places.min(0)) / apart).astype(np.int64)
    columns = int(cells[:, 0].max()) + 1
    key = cells[:, 1] * columns + cells[:, 0]
    order = np.argsort(key, kind="stable")
    _push_in_cells(places, order, key[order], columns, apart)


@compiled()
def _push_in_cells(
    places: NDArray[np.float64], order: NDArray[np.int64], key: NDArray[np.int64], columns: int, apart: float
) -> None:
    """Meet each pair of neighbouring cells once; cells have a side of `apart`.

    There are far more cells than images at first, so none is stored: an image's own cell and the right one follow it in
    the order of cells, row by row, and those of the row below lie together, where a second place follows the first.
    """
    count, below = len(order), 0
    for place in range(count):
        cell = key[place]
        left, right = min(cell % columns, 1), min(columns - 1 - cell % columns, 1)
        after = place + 1
        while after < count and key[after] <= cell + right:
            _push_pair(places, order[place], order[after], apart)
            after += 1
        while below < count and key[below] < cell + columns - left:
            below += 1
        after = below
        while after < count and key[after] <= cell + columns + right:
            _push_pair(places, order[place], order[after], apart)
            after += 1


@compiled()
def _push_pair(places: NDArray[np.float64], one: int, other: int, apart: float) -> None:
    x, y = places[other, 0] - places[one, 0], places[other, 1] - places[one, 1]
    squared = x * x + y * y
    if squared >= apart * apart:
        return
    if squared < 1e-18:  # on one another: any direction is right, each pair takes its own
        angle = 2.399963 * (one + other)
        x, y, squared = 1e-9 * np.cos(angle), 1e-9 * np.sin(angle), 1e-18
    distance = np.sqrt(squared)
    step = 0.25 * (apart - distance) / distance
    places[one, 0] -= step * x
    places[one, 1] -= step * y
    places[other, 0] += step * x
    places[other, 1] += step * y
