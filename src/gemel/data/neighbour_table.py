"""Which vectors are near which: the table from which a view's neighbour is drawn."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemel.samples import evenly_spread

BANK = 20_000
"""of more vectors, neighbours are found among so many of them, evenly spread: the search grows with the square"""

MOST, LEAST, A_CLASS = 10, 3, 4
"""neighbours that are looked at: at most, at least, and one for so many images of a class: more are of other classes"""

_CELLS = 2**25
"""distances that are held at a time"""


def neighbours(rows: Tensor, count: int) -> NDArray[np.int64]:
    """Return for each vector the indices of its nearest ones by Euclidean distance, (N, k), nearest first, not itself.

    Args:
        rows: (N, d), N at least 2.
        count: k; of fewer vectors all the others.
    """
    total = len(rows)
    bank = torch.from_numpy(evenly_spread(total, BANK))
    banked, count = rows[bank].float(), min(count, len(bank) - 1)
    squares = banked.square().sum(1)
    found = torch.empty(total, count, dtype=torch.int64)
    size = max(1, _CELLS // len(bank))
    for start in range(0, total, size):
        part = rows[start : start + size].float()
        distances = torch.addmm(squares, part, banked.T, alpha=-2)  # the part's own squares change no order
        own = torch.arange(start, start + len(part))
        place = torch.searchsorted(bank, own).clamp_max(len(bank) - 1)
        is_own = bank[place] == own
        distances[is_own.nonzero().squeeze(1), place[is_own]] = torch.inf
        found[start : start + len(part)] = bank[distances.topk(count, largest=False).indices]
    return found.numpy()


def count_for(images: int, classes: int, most: int = MOST) -> int:
    """Return how many nearest neighbours of an image are likely to be of its class, of so many classes."""
    return min(most, max(LEAST, images // (A_CLASS * classes)), images - 1)
