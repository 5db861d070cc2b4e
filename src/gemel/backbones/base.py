"""Backbone: images to features; views of one size share one forward."""

from collections.abc import Sequence
from itertools import groupby
from typing import final

import torch
from torch import Tensor, nn


@final
class Backbone(nn.Module):
    """A network without its classifier.

    Args:
        network: images (B, 3, H, W) to features (B, width).
        width: number of features.
    """

    def __init__(self, network: nn.Module, width: int) -> None:
        super().__init__()
        self.network = network
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to features (B, width)."""
        return self.network(images)


def features_of(backbone: nn.Module, views: Sequence[Tensor]) -> Tensor:
    """Features of all views, (V·B, width), view after view; consecutive views of one size share one pass.

    Batch norm inside the backbone then sees the views of a pass together, as TWIST's, SwAV's and DINO's code do.
    Methods that normalise each view by itself (Barlow Twins, VICReg, BYOL) call the backbone once a view instead.
    """
    sizes = groupby(views, key=lambda view: view.shape[-2:])
    return torch.cat([backbone(torch.cat(list(group))) for _, group in sizes])
