"""ResNets of a few channels: the whole of a detector in milliseconds."""

from typing import Any

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from gemel.backbones.base import Backbone


class _Narrow(ResNet):
    """torchvision's network, every width divided."""

    def __init__(self, share: int, stem: int, *given: Any) -> None:
        self._share, self._stem = share, stem
        super().__init__(*given)
        self.fc = nn.Identity()  # pyright: ignore

    def _make_layer(self, block: Any, planes: int, *given: Any, **options: Any) -> nn.Sequential:
        if planes == 64:
            self.inplanes = self._stem
            self.conv1, self.bn1 = nn.Conv2d(3, self._stem, 7, 2, 3, bias=False), nn.BatchNorm2d(self._stem)
        return super()._make_layer(block, planes // self._share, *given, **options)


def narrow_resnet50() -> nn.Module:
    """A stem of 4 channels, maps of 8, 16, 32, 64: that of the golden file."""
    return _Narrow(32, 4, Bottleneck, [3, 4, 6, 3])


def narrow_resnet18(share: int = 4) -> nn.Module:
    """A part of ResNet-18's widths."""
    return _Narrow(share, 64 // share, BasicBlock, [2, 2, 2, 2])


def narrow_backbone(seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    return Backbone(narrow_resnet50(), 64).eval()
