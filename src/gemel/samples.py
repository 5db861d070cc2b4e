"""Which of many images stand for all of them."""

import numpy as np
from numpy.typing import NDArray


def evenly_spread(count: int, most: int) -> NDArray[np.int64]:
    """Return up to `most` indices below `count`, evenly spread and ascending; all of them if there are no more.

    Not the first ones: folders are sorted by kind. Exact for any count: float32 knows no odd numbers above 2^24.
    """
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)
