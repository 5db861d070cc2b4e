"""A first-in, first-out queue of keys, the negatives of MoCo and DenseCL."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Queue(nn.Module):
    """Holds the K newest keys as columns of `rows`, (D, K); random directions at first.

    Any number of keys may be pushed at once; the released code asks for a divisor of K.

    Args:
        width: D.
        length: K.
    """

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.rows: Tensor
        self.pointer: Tensor
        self.register_buffer("rows", normalize(torch.randn(width, length), dim=0))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Write keys (n, D) in the place of the oldest; the same ones on every process."""
        length = self.rows.shape[1]
        keys = keys[-length:].to(self.rows.dtype)
        places = (torch.arange(len(keys), device=keys.device) + self.pointer) % length
        self.rows.index_copy_(1, places, keys.T)
        self.pointer.add_(len(keys)).remainder_(length)
