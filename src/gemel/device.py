"""The device that this process computes on: the one answer for every part of gemel."""

from functools import cache

import torch

from gemel.launcher import launched


def device() -> torch.device:
    """Return this process's CUDA device, else the CPU."""
    return torch.device("cuda", launched().local_rank) if _has_cuda() else torch.device("cpu")


def supports_bf16() -> bool:
    """Return whether the device multiplies bfloat16 in hardware; emulation would be slower than float32."""
    return _has_cuda() and torch.cuda.is_bf16_supported(including_emulation=False)


@cache
def _has_cuda() -> bool:
    """Return whether torch finds a CUDA device; it opens the driver's library anew each time, 0.4 ms where none is."""
    return torch.cuda.is_available()
