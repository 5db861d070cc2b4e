"""timm's networks, by their names; the only file that imports timm."""

from functools import cache
from typing import Annotated, Any, Literal, cast

import timm
import torch
from pydantic import Field
from torch import Tensor, nn

from gemel.backbones.base import Backbone
from gemel.errors import UserError
from gemel.settings.recipes import Side


@cache
def names() -> frozenset[str]:
    """All networks of timm, with the tags of pretrained weights too."""
    return frozenset(timm.list_models()) | frozenset(timm.list_pretrained())


def timm_backbone(
    name: str,
    /,
    *,
    stem: Literal["standard", "small"] = "standard",
    zero_init: bool = True,
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
    image_size: Side | None = None,
    patch_size: Annotated[int, Field(ge=1, le=128)] | None = None,
    pretrained: bool = False,
) -> Backbone:
    """A network of timm without its classifier, in training mode.

    Args:
        name: timm's name, with or without the tag of its weights
        stem: small: a residual network's first layer 3 x 3, stride 1, no pooling: for images up to 64 pixels
        zero_init: a residual network's branches start at zero (Barlow Twins: yes; TWIST: no)
        drop_path: chance of skipping a branch
        image_size: side for which a transformer's places are made; other sides are interpolated
        patch_size: side of a transformer's patches, for small images; none: the one in its name
        pretrained: with timm's weights
    """
    options: dict[str, Any] = {"num_classes": 0, "pretrained": pretrained}
    if drop_path:
        options["drop_path_rate"] = drop_path
    residual = _is_resnet(name)
    if residual:
        options["zero_init_last"] = zero_init
    elif name.startswith(("vit", "deit", "test_vit")):
        sizes = {"img_size": image_size, "patch_size": patch_size}
        options |= {"dynamic_img_size": True} | {key: value for key, value in sizes.items() if value}
    if patch_size and "patch_size" not in options:
        raise UserError(f"--backbone.patch_size is for timm's vision transformers (vit_*, deit_*), not {name}")
    try:
        network: Any = timm.create_model(name, **options)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"timm can't make {name} with {options}: {error}") from error
    if stem == "small":
        if not residual:
            raise UserError(f"--backbone.stem small is for timm's ResNets (resnet18, resnet50, ...), not {name}")
        width = cast(nn.Conv2d, network.conv1).out_channels
        network.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
    return Backbone(network, network.num_features)


class LastBlocks(nn.Module):
    """A vision transformer by the class tokens of its last n blocks, each through the final norm, block after block.

    TWIST: n = 4, (B, 4·width). DINO: n = 4 for S; n = 1 and the mean of the last block's patch tokens for B.

    Args:
        network: a vision transformer of timm, or a Backbone of one.
        blocks: n.
        patches: append the mean of the last block's patch tokens, normed too.

    Raises:
        UserError: the network has no class token, or fewer blocks.
    """

    def __init__(self, network: nn.Module, *, blocks: int, patches: bool = False) -> None:
        super().__init__()
        inner: Any = network.network if isinstance(network, Backbone) else network
        if not hasattr(inner, "get_intermediate_layers") or not getattr(inner, "num_prefix_tokens", 0):
            raise UserError("features of the last blocks need a vision transformer of timm with a class token")
        if blocks > len(inner.blocks):
            raise UserError(f"--blocks {blocks} of a network with {len(inner.blocks)}")
        self.network, self.blocks, self.patches = inner, blocks, patches

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to features (B, blocks · width), or one width more with `patches`."""
        layers = self.network.get_intermediate_layers(images, n=self.blocks, return_prefix_tokens=True, norm=True)
        parts = [prefix[:, 0] for _, prefix in layers]
        return torch.cat([*parts, layers[-1][0].mean(1)] if self.patches else parts, 1)


def _is_resnet(name: str) -> bool:
    bare = name.partition(".")[0]
    return bare in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d")
