"""Heads: small networks between the features and the loss."""

from itertools import pairwise
from typing import Literal

from torch import nn

Norm = Literal["batch", "group", "none"]


def mlp(
    *widths: int, bias: bool = True, norm: Norm = "batch", activation: Literal["relu", "gelu"] = "relu"
) -> nn.Sequential:
    """Linear layers from widths[0] to widths[-1]; all but the last are followed by a norm and an activation.

    Args:
        widths: of the input and of every layer.
        bias: of the linear layers.
        norm: batch; group, of at most 32 groups of two or more columns; or none.
        activation: ReLU or GELU.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        act = nn.ReLU(inplace=True) if activation == "relu" else nn.GELU()
        layers += [nn.Linear(before, after, bias=bias), *_norm(norm, after), act]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=bias))


def _norm(norm: Norm, width: int) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm1d(width)]
    # a group of one column would become 0
    groups = next((groups for groups in (32, 16, 8, 4, 2) if width % (2 * groups) == 0), 1)
    return [nn.GroupNorm(groups, width)] if norm == "group" else []
