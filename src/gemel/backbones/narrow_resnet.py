"""A small residual network of four stages for small images, which detection and segmentation take too."""

from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import Field
from torch import nn
from torchvision.models.resnet import BasicBlock, conv1x1

from gemel.backbones.base import Backbone, Channels
from gemel.settings.recipes import Count

Blocks = Annotated[int, Field(ge=1, le=64)]
Widths = tuple[Count, Count, Count, Count]


def narrow_resnet(
    *,
    widths: Widths = (16, 32, 64, 128),
    blocks: tuple[Blocks, Blocks, Blocks, Blocks] = (1, 1, 1, 1),
    stem: Literal["small", "pooled"] = "pooled",
    pool: Annotated[int, Field(ge=1, le=16)] = 1,
    in_channels: Channels = 3,
) -> Backbone:
    """Return a ResNet of basic blocks, by default of 0.3 million parameters; its first layer is 3 x 3, stride 1.

    Args:
        widths: channels of the four stages; the first layer has as many as the first
        blocks: of each stage, two convolutions each
        stem: pooled: the first layer's map is pooled: maps of strides 2, 4, 8, 16; small: it is not: 1, 2, 4, 8
        pool: the last map is averaged to this side; width = widths[-1] · pool²
        in_channels: channels of the images; 2: the Sobel gradients of gemel's images, which have 3
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False),
        bn1=nn.BatchNorm2d(widths[0]),
        relu=nn.ReLU(inplace=True),
    )
    if stem == "pooled":
        layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
    inner = widths[0]
    for number, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
        stride = 1 if number == 1 else 2
        layers[f"layer{number}"] = nn.Sequential(
            *(_block(inner if block == 0 else width, width, stride if block == 0 else 1) for block in range(count))
        )
        inner = width
    network = nn.Sequential(layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    network.append(nn.AdaptiveAvgPool2d(pool)).append(nn.Flatten())
    return Backbone(network, widths[-1] * pool**2, in_channels=in_channels)


def _block(before: int, after: int, stride: int) -> BasicBlock:
    """Return a basic block, with a projection where the shape changes."""
    if stride == 1 and before == after:
        return BasicBlock(before, after)
    shortcut = nn.Sequential(conv1x1(before, after, stride), nn.BatchNorm2d(after))
    return BasicBlock(before, after, stride, shortcut)
