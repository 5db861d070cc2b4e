"""Backbone: images to features, and to feature maps; width and allowed sizes are measured, not believed."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from itertools import groupby
from typing import Annotated, Any, TypeVar, final

import torch
from pydantic import Field
from torch import Tensor, nn

from gemel.backbones.parts.in_parts import Looked, in_parts
from gemel.backbones.parts.sobel import sobel
from gemel.errors import UserError

_T = TypeVar("_T")

Show = Callable[[Callable[[Tensor], Any], Tensor], Any]

SHOWN: ContextVar[Show | None] = ContextVar("shown", default=None)
"""how networks are shown images while it is set: called with what looks, and with the images"""

Channels = Annotated[int, Field(ge=1, le=64)]

COLOURS, GRADIENTS = 3, 2
"""channels of gemel's images, and of their Sobel gradients"""

REFUSALS = (RuntimeError, AssertionError, ValueError, IndexError, ZeroDivisionError)
"""what networks raise for images of a size that they do not take"""

STRIDES = (32, 16, 14, 8)
"""patch sizes and total strides: sides that a network takes are often their multiples"""


@final
class Backbone(nn.Module):
    """A network without its classifier.

    Args:
        network: images (B, in_channels, H, W) to features (B, width).
        width: number of features.
        stages: names of the submodules whose outputs are the maps; empty: found by `maps`.
        in_channels: channels of the images; a network of 2 is shown the Sobel gradients of images of 3.
    """

    def __init__(self, network: nn.Module, width: int, *, stages: Sequence[str] = (), in_channels: int = 3) -> None:
        super().__init__()
        self.network = network
        self.width = width
        self.in_channels = in_channels
        self._stages = tuple(stages)
        self.part: int | None = None
        """images that the network sees at a time; None: all of a batch (`parts.in_parts`)"""

    def forward(self, images: Tensor) -> Tensor:
        """Return the features, (B, width), of normalised images, (B, in_channels, H, W).

        Raises:
            UserError: the images have another number of channels.
        """
        return self._in_parts(self.network, self._seen(images))

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps of normalised images, each (B, C, H, W): the last map of each stage, finest first.

        ResNets give layer1 to layer4 (strides 4, 8, 16, 32; a small stem 1, 2, 4, 8), other networks that shrink their
        maps at most the last four, plain vision transformers one: the normalised patch tokens of the last block.

        Raises:
            UserError: the network's maps are not known, or the images have another number of channels.
        """
        return self.with_maps(images)[1]

    def with_maps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return features and maps of normalised images by one pass.

        Raises:
            UserError: as `maps`.
        """
        images = self._seen(images)
        layers = [name for name, _ in self.network.named_children() if name.startswith("layer") and name[5:].isdigit()]
        stages = self._stages or tuple(layers)
        if stages:
            look = partial(_outputs, self.network, stages)
        elif hasattr(self.network, "forward_intermediates"):
            look = partial(_intermediates, self.network)
        else:
            raise UserError(f"the feature maps of {type(self.network).__name__} are not known; choose a ResNet")
        return self._in_parts(look, images)

    def map_channels(self) -> list[int]:
        """Return the number of channels of each of the maps, measured by one black image.

        Raises:
            UserError: the network's maps are not known.
        """
        for size in (64, 224):  # networks that are made for one size take 224
            if not refusal(self.network, size, self.in_channels):
                break
        return [one.shape[1] for one in _of_black(self.network, self.maps, size, self.in_channels)]

    def _in_parts(self, look: Callable[[Tensor], Looked], images: Tensor) -> Looked:
        show = SHOWN.get()
        if show is not None:
            return show(look, images)
        if self.part is None or len(images) <= self.part:
            return look(images)
        return in_parts(look, self.network, images, self.part)

    def _seen(self, images: Tensor) -> Tensor:
        """Return what the network sees: the images, or their Sobel gradients where it takes two channels."""
        if self.in_channels == GRADIENTS and images.shape[1] == COLOURS:
            return sobel(images)
        if images.shape[1] != self.in_channels:
            raise UserError(
                f"the backbone takes images of {self.in_channels} channels, not {images.shape[1]}; "
                f"set --backbone.in_channels {images.shape[1]}"
            )
        return images


def measured(network: nn.Module, size: int, *, stages: Sequence[str] = (), in_channels: int = 3) -> Backbone:
    """Return the backbone of a network, its width measured by one image of `size` pixels.

    Raises:
        REFUSALS: the network does not take images of this size, or does not end in a vector.
    """
    return Backbone(network, _width(network, size, in_channels), stages=stages, in_channels=in_channels)


def check_size(backbone: Backbone, name: str, size: int, option: str) -> None:
    """Try one pass with images of a size.

    Args:
        backbone: the network, as it was made.
        name: its name, for the message.
        size: side of the images in pixels.
        option: what sets it, for the message.

    Raises:
        UserError: the network does not take them; the nearest size that works is told.
    """
    reason = refusal(backbone.network, size, backbone.in_channels)
    if reason:
        works = [one for one in near(size) if not refusal(backbone.network, one, backbone.in_channels)]
        advice = f"{option} {works[0]} works" if works else "choose another --backbone"
        raise UserError(f"{option} {size}: {name} takes no images of {size} pixels ({reason}); {advice}")


def refusal(network: nn.Module, size: int, in_channels: int = 3) -> str:
    """Return why a network does not take images of a size, in its own words; empty if it takes them."""
    try:
        _width(network, size, in_channels)
    except REFUSALS as error:
        return first_line(error)
    return ""


def near(size: int) -> list[int]:
    """Return other sizes that a network may take, the nearest first: multiples of usual patch sizes and strides.

    >>> near(40)
    [42, 48, 32, 28, 64]
    """
    multiples = {max(1, size // stride + up) * stride for stride in STRIDES for up in (0, 1)} - {size}
    return sorted(multiples, key=lambda one: (abs(one - size), -one))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or what kind of error it is."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def features_of(backbone: nn.Module, views: Sequence[Tensor]) -> Tensor:
    """Return the features of all views, (V·B, width), view after view; consecutive views of one size share a pass.

    Batch norm inside the backbone then sees the views of a pass together, as TWIST's, SwAV's and DINO's code do.
    Methods that normalise each view by itself (Barlow Twins, VICReg, BYOL) call the backbone once a view instead.
    """
    sizes = groupby(views, key=lambda view: view.shape[-2:])
    return torch.cat([backbone(torch.cat(list(group))) for _, group in sizes])


def _of_black(network: nn.Module, function: Callable[[Tensor], _T], size: int, in_channels: int) -> _T:
    """Call with one black image in evaluation mode; random state and running statistics stay as they were."""
    training = network.training
    one = next(network.parameters())
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            network.eval()
            return function(torch.zeros(1, in_channels, size, size, device=one.device, dtype=one.dtype))
    finally:
        network.train(training)


def _width(network: nn.Module, size: int, in_channels: int) -> int:
    features = _of_black(network, network, size, in_channels)
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise ValueError(f"it gives {tuple(getattr(features, 'shape', ()))}, not a vector for each image")
    return features.shape[1]


def _outputs(network: nn.Module, stages: Sequence[str], images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return what the network and its named submodules give in a pass."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, inputs, output: found.update({name: output})

    hooks = [network.get_submodule(name).register_forward_hook(keep(name)) for name in stages]
    try:
        features = network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return features, [found[name] for name in stages]


def _intermediates(network: Any, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the features of one of timm's networks, and the last map of each resolution, at most four."""
    strides = [stage["reduction"] for stage in network.feature_info]
    last = [index for index, stride in enumerate(strides) if stride not in strides[index + 1 :]][-4:]
    features, maps = network.forward_intermediates(images, indices=last, norm=len(last) == 1)
    return network.forward_head(features), maps
