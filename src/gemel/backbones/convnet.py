"""A small plain network for small images: digits, characters, symbols."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from gemel.backbones.base import Backbone, Channels
from gemel.errors import UserError
from gemel.settings.recipes import Count

Stride = Annotated[int, Field(ge=1, le=4)]


def convnet(
    *,
    widths: tuple[Count, ...] = (16, 32, 32, 64, 64),
    strides: tuple[Stride, ...] = (1, 2, 1, 2, 1),
    pool: Annotated[int, Field(ge=1, le=16)] = 4,
    in_channels: Channels = 3,
) -> Backbone:
    """Return 3 x 3 convolutions, each with batch norm and ReLU, then the means over pool x pool parts of the map.

    Where a stroke lies tells digits apart: the mean over all positions (pool 1) forgets it.

    Args:
        widths: channels of the layers
        strides: strides of the layers; 2 halves the side
        pool: the last map is averaged to this side; width = widths[-1] · pool²
        in_channels: channels of the images; 2: the Sobel gradients of gemel's images, which have 3

    Raises:
        UserError: the numbers of widths and strides differ.
    """
    if len(widths) != len(strides) or not widths:
        raise UserError(f"{len(widths)} widths and {len(strides)} strides; give one stride for each width")
    layers: list[nn.Module] = []
    for before, after, stride in zip((in_channels, *widths[:-1]), widths, strides, strict=True):
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    network = nn.Sequential(*layers, _Means(pool), nn.Flatten())
    ends = [layer for layer, stride in enumerate((*strides[1:], 2)) if stride > 1]  # before the map shrinks
    stages = [str(3 * layer + 2) for layer in ends]  # the ReLU of a layer
    return Backbone(network, widths[-1] * pool**2, stages=stages, in_channels=in_channels)


class _Means(nn.AdaptiveAvgPool2d):
    """Means over parts of the map; of a map that has as many positions as parts, the map itself."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (B, C, pool, pool)."""
        side = self.output_size
        return input if input.shape[2] == side and input.shape[3] == side else super().forward(input)
