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
    # what lies near on the map lies near in memory, which saves half of the time
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
    low = places.min(0)
    cells = ((places - low) / apart).astype(np.int64)
    columns = int(cells[:, 0].max()) + 1
    key = cells[:, 1] * columns + cells[:, 0]
    order = np.argsort(key, kind="stable")
    starts = np.zeros(int(key.max()) + 2, np.int64)
    np.cumsum(np.bincount(key, minlength=len(starts) - 1), out=starts[1:])
    _push_in_cells(places, cells, order, starts, columns, apart)


@compiled()
def _push_in_cells(
    places: NDArray[np.float64],
    cells: NDArray[np.int64],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    columns: int,
    apart: float,
) -> None:
    for one in range(len(places)):
        column, row = cells[one, 0], cells[one, 1]
        for near_row in range(row, row + 2):  # cells below and to the right: each pair is met once
            for near_column in range(max(column - 1, 0), min(column + 2, columns)):
                cell = near_row * columns + near_column
                if cell >= len(starts) - 1 or (near_row == row and near_column < column):
                    continue
                for place in range(starts[cell], starts[cell + 1]):
                    other = order[place]
                    if near_row == row and near_column == column and other <= one:
                        continue
                    x, y = places[other, 0] - places[one, 0], places[other, 1] - places[one, 1]
                    squared = x * x + y * y
                    if squared >= apart * apart:
                        continue
                    if squared < 1e-18:  # on one another: any direction is right, each pair takes its own
                        angle = 2.399963 * (one + other)
                        x, y, squared = 1e-9 * np.cos(angle), 1e-9 * np.sin(angle), 1e-18
                    distance = np.sqrt(squared)
                    step = 0.25 * (apart - distance) / distance
                    places[one, 0] -= step * x
                    places[one, 1] -= step * y
                    places[other, 0] += step * x
                    places[other, 1] += step * y
