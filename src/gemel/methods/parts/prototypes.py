"""Prototypes: directions that embeddings are compared with, the last layer of DINO and its relatives."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


class Prototypes(nn.Module):
    """A linear layer without bias whose rows are w_k = g_k v_k / |v_k| (weight normalisation).

    Optimiser, clipping and moving averages see v, not w.

    Args:
        width: of the embeddings.
        count: K.
        scaled: whether g is learned; else it stays 1.
    """

    def __init__(self, width: int, count: int, *, scaled: bool = False) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(count, 1), requires_grad=scaled)
        self.weight_v = nn.Parameter(nn.Linear(width, count, bias=False).weight.detach())

    def forward(self, rows: Tensor) -> Tensor:
        """Return scores (n, K) of embeddings (n, width)."""
        return linear(rows, self.weight_g * normalize(self.weight_v, dim=1))
