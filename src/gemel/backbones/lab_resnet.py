"""Two residual networks, of lightness and of colour: CMC's halves of one backbone."""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from gemel.backbones.base import Backbone
from gemel.settings.recipes import IMAGENET_MEAN, IMAGENET_STD, Colour

Scale = tuple[PositiveFloat, PositiveFloat, PositiveFloat]

LAYERS = {18: (BasicBlock, [2, 2, 2, 2]), 50: (Bottleneck, [3, 4, 6, 3]), 101: (Bottleneck, [3, 4, 23, 3])}

RANGES = ((0.0, 100.0), (-86.183, 98.233), (-107.857, 94.478))
"""of L, a and b, which become -1 to 1"""

TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
WHITE = (0.95047, 1.0, 1.08883)
"""of daylight, D65, as in scikit-image"""


class LabHalves(nn.Module):
    """Images to the features of lightness (L) by one network, then those of colour (a, b) by another, (B, 2 · width).

    Args:
        networks: of one and of two channels.
        mean: subtracted from the images before, undone here.
        std: the images were divided by this.
    """

    def __init__(self, networks: tuple[nn.Module, nn.Module], mean: Colour, std: Scale) -> None:
        super().__init__()
        self.l_to_ab, self.ab_to_l = networks
        self.mean, self.std = mean, std

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of normalised RGB images (B, 3, H, W)."""
        colours = [images[:, channel] * self.std[channel] + self.mean[channel] for channel in range(3)]
        lab = to_lab(torch.stack(colours, 1))
        scaled = [(lab[:, c] - (low + high) / 2) * (2 / (high - low)) for c, (low, high) in enumerate(RANGES)]
        found = torch.stack(scaled, 1).to(images.dtype)
        return torch.cat([self.l_to_ab(found[:, :1]), self.ab_to_l(found[:, 1:])], 1)


def to_lab(images: Tensor) -> Tensor:
    """Return CIE Lab of sRGB images (B, 3, H, W) in 0..1: L in 0..100, a and b within about ±108."""
    images = images.clamp(0, 1)
    linear = torch.where(images > 0.04045, ((images + 0.055) / 1.055) ** 2.4, images / 12.92)
    shares: list[Tensor] = []
    for row, white in zip(TO_XYZ, WHITE, strict=True):  # numbers, not a matrix: nothing is sent to the device
        share = sum(weight / white * linear[:, channel] for channel, weight in enumerate(row))
        assert isinstance(share, Tensor)
        shares.append(torch.where(share > 0.008856, share.clamp_min(1e-6) ** (1 / 3), 7.787 * share + 16 / 116))
    x, y, z = shares
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def lab_resnet(
    *,
    depth: Literal[18, 50, 101] = 50,
    width: Annotated[float, Field(gt=0.0, le=4.0)] = 1.0,
    stem: Literal["standard", "small"] = "standard",
    mean: Colour = IMAGENET_MEAN,
    std: Scale = IMAGENET_STD,
) -> Backbone:
    """Return CMC's two ResNets, of the L and of the ab channels of an image; features: both, one after the other.

    Args:
        depth: layers of each network
        width: channels of the four stages, times those of a ResNet; the first layer has 64 in any case
        stem: small: a first layer 3 x 3, stride 1, no pooling: for images up to 64 pixels
        mean: as --views.mean, which is undone before the colours are converted
        std: as --views.std, likewise
    """
    halves = (_resnet(depth, width, stem, 1), _resnet(depth, width, stem, 2))
    block, _ = LAYERS[depth]
    return Backbone(LabHalves(halves, mean, std), 2 * int(512 * width) * block.expansion)


class _Scaled(ResNet):
    """torchvision's network with wider or narrower stages; names of tensors stay."""

    def __init__(self, block: Any, layers: list[int], width: float) -> None:
        self.width = width
        super().__init__(block, layers)

    def _make_layer(self, block: Any, planes: int, *given: Any, **options: Any) -> nn.Sequential:
        return super()._make_layer(block, int(planes * self.width), *given, **options)


def _resnet(depth: int, width: float, stem: str, channels: int) -> nn.Module:
    network: Any = _Scaled(*LAYERS[depth], width)
    small = stem == "small"
    network.conv1 = nn.Conv2d(channels, 64, *((3, 1, 1) if small else (7, 2, 3)), bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.fc = nn.Identity()
    if small:
        network.maxpool = nn.Identity()
    return network
