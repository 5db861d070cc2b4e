"""From which zoom on an image shows as a picture: pictures never cover each other, and none that shows goes again."""

import numpy as np
from numpy.typing import NDArray

from gemel.data.compiled import compiled

COARSEST = 8
"""pictures side by side at level 0; twice as many two levels further"""
DEEPEST = 16
"""level at which all that are left show; then pictures are 2,048 to the map's side and grow with the zoom"""


def levels(places: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the level (N,) at which each image first shows, 0 (from afar) to `DEEPEST`.

    Two images that show at a level lie at least 1 / (COARSEST 2^(level / 2)) apart along one axis, up to the deepest.
    Those that come first among the images go first.

    Args:
        places: (N, 2) in the unit square.
    """
    found = np.full(len(places), DEEPEST, np.uint8)
    for level in range(DEEPEST):
        side = int(COARSEST * 2 ** (level / 2))
        _place(places, found, level, side, np.full((side + 2, side + 2), -1, np.int32))
    return found


@compiled()
def _place(
    places: NDArray[np.float32], found: NDArray[np.uint8], level: int, side: int, grid: NDArray[np.int32]
) -> None:
    """Show at `level` what fits beside that which shows already; a cell of the grid holds one image at most."""
    for settled in (True, False):
        for one in range(len(places)):
            if (found[one] < level) != settled:
                continue
            column, row = int(places[one, 0] * side), int(places[one, 1] * side)
            free = True
            if not settled:
                for near_row in range(row, row + 3):
                    for near_column in range(column, column + 3):
                        other = grid[min(near_row, side + 1), min(near_column, side + 1)]
                        if other >= 0:
                            apart = max(abs(places[one, 0] - places[other, 0]), abs(places[one, 1] - places[other, 1]))
                            free = free and apart * side >= 1
            if free:
                found[one] = min(found[one], level)
                grid[min(row + 1, side + 1), min(column + 1, side + 1)] = one
