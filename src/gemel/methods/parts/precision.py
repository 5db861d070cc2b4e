"""What kernels share: sums in float32 or wider whatever autocast says, in pieces that a cache holds."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

CACHE_BYTES = 2**20
"""a piece on a CPU: what a core's second cache holds"""
PIECE_BYTES = 2**26
"""a piece on other devices, where a launch costs more than a trip to memory"""


def widened(values: Tensor) -> Tensor:
    """Float64 where given, else float32: sums over a batch overflow or round away in half precision."""
    return values if values.dtype == torch.float64 else values.float()


def exact_products(device: torch.device) -> AbstractContextManager[object]:
    """Matrix products are not rounded to half precision inside."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def pieces(count: int, each: int, device: torch.device, *, least: int = 1, caches: int = 1) -> Iterator[slice]:
    """Slices of `count` things of `each` bytes, at least `least` things in one.

    On a CPU a slice fills `caches` second caches of each thread: more where products reuse what they read, as every
    operation on a small slice waits for all threads.
    """
    held = CACHE_BYTES * caches * torch.get_num_threads() if device.type == "cpu" else PIECE_BYTES
    step = max(least, held // each)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
