"""ResNet-50 with every channel count doubled: the 94 M network of TWIST, SwAV and BYOL."""

from typing import Any

from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from gemel.backbones.base import Backbone, Channels


class _Doubled(ResNet):
    """torchvision's network with the stem and every stage twice as wide; names of tensors stay."""

    def _make_layer(self, block: Any, planes: int, *given: Any, **options: Any) -> nn.Sequential:
        if planes == 64:
            self.inplanes = 128
            self.conv1 = nn.Conv2d(3, 128, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(128)
        return super()._make_layer(block, 2 * planes, *given, **options)


def resnet50w2(*, zero_init: bool = False, in_channels: Channels = 3) -> Backbone:
    """Return ResNet-50x2: stem of 128 channels, 4096 features; in `wide_resnet50_2` the inner layers alone are wider.

    Args:
        zero_init: branches start at zero (TWIST: no)
        in_channels: channels of the images; 2: the Sobel gradients of gemel's images, which have 3
    """
    network = _Doubled(Bottleneck, [3, 4, 6, 3], zero_init_residual=zero_init)
    network.fc = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    if in_channels != 3:
        network.conv1 = nn.Conv2d(in_channels, 128, 7, 2, 3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return Backbone(network, 4096, in_channels=in_channels)
