"""The newest embeddings of the global views, SwAV's queue."""

import torch
from torch import Tensor, nn

from gemel.methods.parts.counter import Counter


class Recent(nn.Module):
    """Holds the newest rows of each view, newest first, (views, length, width); zeros at first.

    Args:
        views: number of views.
        length: rows of each.
        width: columns.
    """

    def __init__(self, views: int, length: int, width: int) -> None:
        super().__init__()
        self.rows: Tensor
        self.register_buffer("rows", torch.zeros(views, length, width))
        self.pushed = Counter()

    @property
    def is_full(self) -> bool:
        """Whether as many rows as it holds were pushed."""
        return self.pushed.value >= self.rows.shape[1]

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Put rows (views, n, width), the same on every process, before the others, of which the oldest fall off."""
        length = self.rows.shape[1]
        self.rows.copy_(torch.cat([rows.to(self.rows.dtype), self.rows], 1)[:, :length])
        self.pushed.value = min(self.pushed.value + rows.shape[1], length)
