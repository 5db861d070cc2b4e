"""The best of several heads without labels: the one whose loss was lowest of late."""

from collections.abc import Sequence

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


def of_best(outputs: Sequence[Tensor], running: Tensor) -> Tensor:
    """Return the outputs of the head of the lowest running loss; no device waits, and a graph can be exported.

    Args:
        outputs: of each head, all of one shape.
        running: (heads,) as `note_losses` leaves them.
    """
    return torch.stack(list(outputs)).index_select(0, running.argmin()[None]).squeeze(0)
