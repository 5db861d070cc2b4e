"""What kernels share: sums in float32 or wider under autocast too, in pieces that fit a cache."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

CACHE_BYTES = 2**20
"""a piece on a CPU: the size of a core's second-level cache"""
PIECE_BYTES = 2**26
"""a piece on other devices, where launching a kernel costs more than memory traffic"""


def widened(values: Tensor) -> Tensor:
    """Return values in float32, or float64 as given: sums over a batch overflow or lose digits in half precision."""
    return values if values.dtype == torch.float64 else values.float()


def exact_products(device: torch.device) -> AbstractContextManager[object]:
    """Return a block without autocast: matrix products are not rounded to half precision."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def pieces(count: int, each: int, device: torch.device, *, least: int = 1, caches: int = 1) -> Iterator[slice]:
    """Yield slices of `count` items of `each` bytes, with at least `least` items each.

    On a CPU a slice fills `caches` second-level caches of each thread: more where products reuse what they read, as
    every operation on a small slice synchronises all threads.
    """
    held = CACHE_BYTES * caches * torch.get_num_threads() if device.type == "cpu" else PIECE_BYTES
    step = max(least, held // each)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
