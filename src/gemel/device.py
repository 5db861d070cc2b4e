"""The device that this process computes on: the one answer for every part of gemel."""

import torch

from gemel.launcher import launched


def device() -> torch.device:
    """Return this process's CUDA device, else the CPU."""
    return torch.device("cuda", launched().local_rank) if torch.cuda.is_available() else torch.device("cpu")


def supports_bf16() -> bool:
    """Return whether the device multiplies bfloat16 in hardware; emulation would be slower than float32."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
