"""A ResNet by its stages: the maps that detectors and segmenters are built on."""

from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from gemel.backbones.base import COLOURS, GRADIENTS, Backbone
from gemel.backbones.parts.sobel import sobel
from gemel.errors import UserError

LAYERS = ("layer1", "layer2", "layer3", "layer4")

_SIDE = 64
"""of the black image by which maps are measured, pixels"""


class Stages(nn.Module):
    """Stem and stages of a ResNet, by the names that they have there; a sequence of modules.

    The modules are those of the network itself: give a copy where it has to stay as it is.

    Args:
        network: a Backbone of a ResNet of four stages, or the ResNet.
        last: number of stages that are kept, from the first.
        frozen_norms: batch norms keep their statistics and their weights.

    Attributes:
        widths: channels of each map.
        strides: pixels of the image to one of each map.

    Raises:
        UserError: another network.
    """

    def __init__(self, network: nn.Module, *, last: int = 4, frozen_norms: bool = False) -> None:
        super().__init__()
        inner, self.in_channels = _resnet(network)
        self._layers = LAYERS[:last]
        for name, child in inner.named_children():
            self.add_module(name, child)
            if name == self._layers[-1]:
                break
        self._frozen = [one for one in self.modules() if frozen_norms and isinstance(one, _BatchNorm)]
        for norm in self._frozen:
            norm.requires_grad_(False)
        maps = _of_black(self, self.in_channels)
        self.widths = [one.shape[1] for one in maps]
        self.strides = [_SIDE // one.shape[2] for one in maps]

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen norms stay in evaluation mode."""
        super().train(mode)
        for norm in self._frozen:
            norm.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the map of each stage, (B, widths[i], H / strides[i], W / strides[i]), of images (B, 3, H, W)."""
        rows = sobel(images) if self.in_channels == GRADIENTS else images
        found: list[Tensor] = []
        for name, child in self.named_children():
            rows = child(rows)
            if name in self._layers:
                found.append(rows)
        return found


def fourth_stage(network: nn.Module) -> nn.Module:
    """Return the last stage of a ResNet, for use on regions of the third one's map.

    Raises:
        UserError: another network.
    """
    return cast(nn.Module, _resnet(network)[0].get_submodule(LAYERS[-1]))


def dilate(stage: nn.Module, *, first: int, rest: int) -> None:
    """Turn a stage's stride into dilation: its maps keep the side of its input.

    The first 3 x 3 convolution of the stage gets the rate `first`, all others `rest`, as torchvision's
    `replace_stride_with_dilation` and timm's `output_stride` do.

    Args:
        stage: of a ResNet; its weights stay.
        first: the rate before the stage.
        rest: the rate after it.

    Raises:
        UserError: the stage's stride is not in its convolutions alone.
    """
    if any(isinstance(one, nn.AvgPool2d | nn.MaxPool2d) for one in stage.modules()):
        raise UserError("segmentation dilates the convolutions of a ResNet, not of one that pools in its shortcuts")
    rate = first
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size != (1, 1):
                module.dilation = module.padding = (rate, rate)
                rate = rest


def _resnet(network: nn.Module) -> tuple[Any, int]:
    """Return the ResNet, and how many channels it takes.

    Raises:
        UserError: it is none of four stages.
    """
    inner, channels = network, COLOURS
    if isinstance(network, Backbone):
        inner, channels = network.network, network.in_channels
    names = [name for name, _ in inner.named_children()]
    if any(name not in names for name in LAYERS) or channels not in (COLOURS, GRADIENTS):
        raise UserError(
            f"detection and segmentation take a ResNet of four stages, of images of 3 channels, not "
            f"{type(inner).__name__}; pretrain with --backbone resnet18 or resnet50"
        )
    return inner, channels


@torch.no_grad()
def _of_black(stages: Stages, channels: int) -> list[Tensor]:
    training, one = stages.training, next(stages.parameters())
    try:
        stages.eval()
        side = (1, COLOURS if channels == GRADIENTS else channels, _SIDE, _SIDE)
        return stages(torch.zeros(side, device=one.device, dtype=one.dtype))
    finally:
        stages.train(training)
