"""A network cut before its last stage: the trunk stays as it is, the tail learns before components."""

from typing import Self

import torch
from torch import Tensor, nn

from gemel.backbones.base import REFUSALS, Backbone
from gemel.errors import UserError

_CONTAINERS = ("blocks", "stages", "features")
"""what networks call the sequence that their stages, or blocks, stand in; others number them: layer1 to layer4"""

_TOLERANCE = 1e-5
"""allowed difference between the halves and the network, as a share of the largest feature"""


def halves(backbone: Backbone, name: str, size: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Return trunk and tail, so that tail(trunk(images)) are the features; the modules are those of the network.

    The tail is the last stage and all behind it. That the halves are the network is proven on random images.

    Args:
        backbone: in evaluation mode.
        name: its name, for the message.
        size: side of the images, pixels.

    Raises:
        UserError: it is no sequence of stages.
    """
    parts, last = _parts(backbone.network)
    trunk, tail = nn.Sequential(*parts[:last]), nn.Sequential(*parts[last:], nn.Flatten())
    if not (parts[:last] and _are_equal(backbone, trunk, tail, size)):
        raise UserError(
            f"--train last: {name} is no sequence of stages of which the last could learn by itself; "
            "take --train heads or --train all, or --backbone tf_efficientnet_lite0, resnet18 or resnet50"
        )
    return trunk, tail


class Adapted(nn.Module):
    """The tail of a network, whose norms keep their statistics, before principal components.

    Args:
        tail: maps (B, c, h, w) to features (B, d).
        components: features to (B, components).
    """

    def __init__(self, tail: nn.Module, components: nn.Module) -> None:
        super().__init__()
        self.tail, self.components = tail, components

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the tail stays in evaluation mode: a batch of one stage's maps tells little of all images."""
        super().train(mode)
        self.tail.eval()
        return self

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, components) of maps (B, c, h, w)."""
        return self.components(self.tail(maps))


def without_tail(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a method's tensors as if its backbone were the components alone, on features that the tail has given."""
    own = f"{_PLACE}components."
    return {
        name.replace(own, _PLACE) if name.startswith(own) else name: value
        for name, value in tensors.items()
        if not name.startswith(f"{_PLACE}tail.")
    }


_PLACE = "backbone.network."


def _parts(network: nn.Module) -> tuple[list[nn.Module], int]:
    """Return the modules of a network in their order, and the index of its last stage; 0 where none is found."""
    parts, last = list[nn.Module](), 0
    for name, child in network.named_children():
        if name in _CONTAINERS and isinstance(child, nn.Sequential):
            parts += list(child)
            last = len(parts) - 1
        else:
            if name.startswith("layer") and name[5:].isdigit():
                last = len(parts)
            parts.append(child)
    return parts, last


@torch.no_grad()
def _are_equal(backbone: Backbone, trunk: nn.Module, tail: nn.Module, size: int) -> bool:
    one = next(backbone.parameters())
    random = torch.Generator().manual_seed(0)
    images = torch.randn(2, backbone.in_channels, size, size, generator=random).to(one.device, one.dtype)
    wanted = backbone(images)
    try:
        found = tail(trunk(images))
    except REFUSALS:
        return False
    return found.shape == wanted.shape and bool((found - wanted).abs().max() <= _TOLERANCE * wanted.abs().max())
