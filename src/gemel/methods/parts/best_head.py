"""The best of several heads without labels: the one whose loss was lowest of late."""

import torch
from torch import Tensor

SHARE = 0.02
"""of a step in the running loss, which is about the mean of the last 50 steps"""


@torch.no_grad()
def note_losses(running: Tensor, losses: Tensor) -> None:
    """Add a step's losses to the running ones, (heads,); no device waits.

    They begin at 0 alike for all heads, so that their order is right from the first step on.
    """
    running.lerp_(losses.detach().to(running.dtype), SHARE)
