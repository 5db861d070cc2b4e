"""FCN on a dilated ResNet, with DenseCL's heads and mmsegmentation's loss."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from gemel.backbones.parts.stages import Stages, dilate
from gemel.methods.parts.precision import widened
from gemel.metrics.dense.miou import IGNORED
from gemel.supervised.dense.recipes import Segmenting

TERMS = ("main", "auxiliary")
"""of the loss"""


class FcnHead(nn.Module):
    """Two 3 x 3 convolutions, a third on their input and output together, dropout, one logit a class.

    Args:
        width: channels of the map.
        channels: of the convolutions.
        classes: of the logits.
    """

    def __init__(self, width: int, channels: int, classes: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(_conv(width, channels), _conv(channels, channels))
        self.join = _conv(width + channels, channels)
        self.logits = _logits(channels, classes)

    def forward(self, rows: Tensor) -> Tensor:
        """Return logits (B, classes, h, w) of a map (B, width, h, w)."""
        return self.logits(self.join(torch.cat([rows, self.convs(rows)], 1)))


class PlainHead(nn.Sequential):
    """3 x 3 convolutions one after the other, dropout where the recipe has it, one logit a class.

    Args:
        width: channels of the map.
        channels: of the convolutions.
        classes: of the logits.
        count: of the convolutions.
        rate: of their dilation.
        dropout: chance that a channel is dropped.
    """

    def __init__(self, width: int, channels: int, classes: int, *, count: int, rate: int, dropout: float) -> None:
        convs = [_conv(width if not index else channels, channels, rate) for index in range(count)]
        super().__init__(*convs, _logits(channels, classes, dropout))


class Segmenter(nn.Module):
    """A class for each pixel, from a ResNet's fourth stage.

    Args:
        stages: of the backbone, all four; their strides are turned into dilation.
        classes: of the pixels.
        recipe: head, stride, auxiliary head, how maps are resized.
    """

    def __init__(self, stages: Stages, classes: int, recipe: Segmenting) -> None:
        super().__init__()
        widths = stages.widths
        if recipe.stride == 8:
            dilate(stages.get_submodule("layer3"), first=1, rest=2)
            dilate(stages.get_submodule("layer4"), first=2, rest=4)
        else:
            dilate(stages.get_submodule("layer4"), first=1, rest=2)
        self.stages, self.align = stages, recipe.align_corners
        if recipe.head == "fcn":
            self.head: nn.Module = FcnHead(widths[3], recipe.channels, classes)
        else:
            self.head = PlainHead(widths[3], recipe.channels, classes, count=2, rate=6, dropout=0.0)
        aside = recipe.auxiliary
        self.auxiliary = PlainHead(widths[2], aside, classes, count=1, rate=1, dropout=0.1) if aside else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the sums of the losses in training mode, (terms,), else logits (B, classes, H, W).

        L = Σ over the known pixels of -log softmax(z)_y; the caller divides by all pixels.

        Args:
            images: normalised (B, 3, H, W).
            labels: (B, H, W), in training.
        """
        *_, third, fourth = self.stages(images)
        logits = self._resized(self.head(fourth), images.shape[-2:])
        if not self.training:
            return logits
        assert labels is not None
        maps = [logits]
        if self.auxiliary is not None:
            maps.append(self._resized(self.auxiliary(third), images.shape[-2:]))
        return torch.stack([cross_entropy(one, labels, ignore_index=IGNORED, reduction="sum") for one in maps])

    def _resized(self, logits: Tensor, sides: tuple[int, ...]) -> Tensor:
        return interpolate(widened(logits), sides, mode="bilinear", align_corners=self.align)


def windows(height: int, width: int, side: int, stride: int) -> list[tuple[int, int]]:
    """Return the upper left corners of overlapping windows that cover an image; those at an edge are moved inside.

    >>> windows(1025, 2049, 769, 513)
    [(0, 0), (0, 513), (0, 1026), (0, 1280), (256, 0), (256, 513), (256, 1026), (256, 1280)]
    """
    starts = [
        [
            min(number * stride, max(length - side, 0))
            for number in range(max(length - side + stride - 1, 0) // stride + 1)
        ]
        for length in (height, width)
    ]
    return [(top, left) for top in starts[0] for left in starts[1]]


@torch.no_grad()
def logits_of(
    network: Segmenter, image: Tensor, *, test: Literal["whole", "windows"], side: int, stride: int
) -> Tensor:
    """Return the logits (1, classes, H, W) of a normalised image (1, 3, H, W), by windows their mean.

    Args:
        network: in evaluation mode.
        image: normalised.
        test: whole, or in windows.
        side: of a window, pixels.
        stride: between windows, pixels.
    """
    if test == "whole":
        return network(image)
    total, seen = image.new_zeros(()), image.new_zeros(1, 1, *image.shape[-2:])
    for top, left in windows(image.shape[2], image.shape[3], side, stride):
        place = (..., slice(top, top + side), slice(left, left + side))
        found = network(image[place])
        if not total.dim():
            total = found.new_zeros(1, found.shape[1], *image.shape[-2:])
        total[place] += found
        seen[place] += 1
    return total / seen


def _conv(width: int, channels: int, rate: int = 1) -> nn.Sequential:
    made = nn.Conv2d(width, channels, 3, padding=rate, dilation=rate, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(made, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def _logits(channels: int, classes: int, dropout: float = 0.1) -> nn.Sequential:
    made: Any = nn.Conv2d(channels, classes, 1)
    nn.init.normal_(made.weight, std=0.01)
    nn.init.zeros_(made.bias)
    return nn.Sequential(nn.Dropout2d(dropout), made)
