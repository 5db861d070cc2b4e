"""Heads: small networks between the features and the loss."""

from itertools import pairwise

from torch import nn


def mlp(*widths: int, bias: bool = True) -> nn.Sequential:
    """Linear layers from widths[0] to widths[-1]; all but the last are followed by batch norm and ReLU."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=bias), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1], bias=bias))
