"""Self-Classifier's head: a projection to the sphere, and linear classifiers of weights with a norm of their own."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class WeightNormed(nn.Module):
    """A linear layer without bias whose rows are g v / ‖v‖, g learned.

    Args:
        width: of the input.
        classes: rows.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(classes, 1))
        self.weight_v = nn.Parameter(nn.init.trunc_normal_(torch.empty(classes, width), std=0.02))

    def forward(self, rows: Tensor) -> Tensor:
        """Return logits (n, classes) of rows (n, width)."""
        return rows @ (self.weight_g * normalize(self.weight_v)).T


class ProjectionHead(nn.Sequential):
    """Linear-BN-LeakyReLU, ..., Linear, of weights N(0, 0.02²) cut at two deviations, and rows divided by their norm.

    Args:
        widths: of the input and of every layer.
    """

    def __init__(self, *widths: int) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.LeakyReLU(0.01)]
            nn.init.trunc_normal_(layers[-3].weight, std=0.02)  # pyright: ignore[reportArgumentType]
            nn.init.zeros_(layers[-3].bias)  # pyright: ignore[reportArgumentType]
        super().__init__(*layers[:-2])

    def forward(self, input: Tensor) -> Tensor:
        """Return embeddings (n, D) of norm 1."""
        return normalize(super().forward(input), eps=1e-7)
