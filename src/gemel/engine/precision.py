"""Precisions by their names in settings, outside of Lightning's trainer."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

_HALVES = {"bf16": torch.bfloat16, "16": torch.float16}


def autocast(precision: str | None, device: str) -> AbstractContextManager[Any]:
    """Networks in half precision where it is bf16 or 16, else as they are."""
    return torch.autocast(device, _HALVES[precision]) if precision in _HALVES else nullcontext()
