"""A queue of embeddings with their images' numbers, in which an embedding's nearest neighbour is looked up."""

import torch
from torch import Tensor, nn


class NeighbourQueue(nn.Module):
    """The newest embeddings, first in, first out.

    Args:
        width: D.
        length: embeddings that it holds.
    """

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.rows: Tensor
        self.index: Tensor
        self.pointer: Tensor
        self.full: Tensor
        self.register_buffer("rows", torch.zeros(length, width))
        self.register_buffer("index", torch.full((length,), -1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("full", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def push(self, rows: Tensor, index: Tensor) -> None:
        """Write embeddings (n, D) and their images (n,) in the place of the oldest; the same ones on every process."""
        length = len(self.rows)
        rows, index = rows[-length:].to(self.rows.dtype), index[-length:]
        places = (torch.arange(len(rows), device=rows.device) + self.pointer) % length
        self.rows.index_copy_(0, places, rows)
        self.index.index_copy_(0, places, index)
        self.full.logical_or_(self.pointer + len(rows) >= length)
        self.pointer.add_(len(rows)).remainder_(length)

    @torch.no_grad()
    def nearest(self, rows: Tensor, index: Tensor) -> Tensor:
        """Return for each embedding the one in the queue with the largest dot product, (n, D).

        The second largest where the largest is of the image itself. Of use once the queue is `full`.

        Args:
            rows: (n, D).
            index: (n,) of their images.
        """
        scores = rows.to(self.rows.dtype) @ self.rows.T
        two = scores.topk(min(2, len(self.rows)), dim=1).indices  # (n, 2)
        own = self.index[two[:, 0]] == index
        return self.rows[two[:, -1].where(own, two[:, 0])].to(rows.dtype)
