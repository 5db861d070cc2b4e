"""Heads: small networks between the features and the loss."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

Norm = Literal["batch", "group", "none"]
LastNorm = Literal["none", "plain", "scale"]


def mlp(
    *widths: int,
    bias: bool = True,
    last_bias: bool | None = None,
    norm: Norm = "batch",
    last_norm: LastNorm = "none",
    activation: Literal["relu", "gelu"] = "relu",
) -> nn.Sequential:
    """Return linear layers from widths[0] to widths[-1]; all but the last are followed by a norm and an activation.

    Args:
        widths: of the input and of every layer.
        bias: of the linear layers.
        last_bias: of the last linear layer; None: as the others.
        norm: batch; group, of at most 32 groups of two or more columns; or none.
        last_norm: a batch norm after the last layer: plain, without scale and shift; scale, with a shift that stays 0.
        activation: ReLU or GELU.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        act = nn.ReLU(inplace=True) if activation == "relu" else nn.GELU()
        layers += [nn.Linear(before, after, bias=bias), *_norm(norm, after), act]
    last = nn.Linear(widths[-2], widths[-1], bias=bias if last_bias is None else last_bias)
    return nn.Sequential(*layers, last, *_last_norm(last_norm, widths[-1]))


def view_by_view(layers: nn.Sequential, views: Sequence[Tensor]) -> list[Tensor]:
    """Return `[layers(view) for view in views]`: each batch norm sees every view by itself, in that order.

    The linear layers take all views in one product, so that wide weights and their gradients are touched once.
    """
    rows = torch.cat(list(views))
    for layer in layers:
        if isinstance(layer, _BatchNorm):
            rows = torch.cat([layer(view) for view in rows.chunk(len(views))])
        else:
            rows = layer(rows)
    return list(rows.chunk(len(views)))


def _last_norm(norm: LastNorm, width: int) -> list[nn.Module]:
    if norm == "none":
        return []
    layer = nn.BatchNorm1d(width, affine=norm == "scale")
    if norm == "scale":
        layer.bias.requires_grad_(False)
    return [layer]


def _norm(norm: Norm, width: int) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm1d(width)]
    # a group of one column would become 0
    groups = next((groups for groups in (32, 16, 8, 4, 2) if width % (2 * groups) == 0), 1)
    return [nn.GroupNorm(groups, width)] if norm == "group" else []
