"""timm's networks, by their names; the only file that imports timm."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Annotated, Any, Literal, NamedTuple

import timm
import torch
from pydantic import Field
from torch import Tensor, nn

from gemel.backbones.base import COLOURS, REFUSALS, Backbone, Channels, first_line, measured, near
from gemel.errors import UserError
from gemel.settings.recipes import Count, Side


@cache
def names() -> frozenset[str]:
    """Return the names of all networks of timm, with the tags of pretrained weights too."""
    return frozenset(timm.list_models()) | frozenset(timm.list_pretrained())


class Published(NamedTuple):
    """What timm knows of the weights that it has for a network."""

    name: str
    """with the tag of the weights"""
    origin: str
    """where timm downloads them"""
    licence: str
    """empty where timm does not state it"""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    """side of the images, pixels"""


def published(name: str) -> Published | None:
    """Return what timm knows of its weights for a network, those of the first tag where the name has none.

    None for a network that timm has no weights for, or does not know.
    """
    facts = timm.get_pretrained_cfg(name) if name in names() else None
    if facts is None or not facts.has_weights:
        return None
    tag = f".{facts.tag}" if facts.tag else ""
    full = f"{name.partition('.')[0]}{tag}"
    hub = f"{facts.hf_hub_id}{full}" if str(facts.hf_hub_id).endswith("/") else facts.hf_hub_id
    origin = f"huggingface.co/{hub}" if hub else str(facts.url or facts.file)
    return Published(full, origin, facts.license or "", facts.mean, facts.std, facts.input_size[-1])


Stem = Literal["standard", "small", "pooled"]


def timm_backbone(
    name: str,
    size: int | None = None,
    /,
    *,
    stem: Stem = "standard",
    zero_init: bool = True,
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
    image_size: Side | None = None,
    patch_size: Annotated[int, Field(ge=1, le=128)] | None = None,
    heads: Count | None = None,
    in_channels: Channels = 3,
    pretrained: bool = False,
) -> Backbone:
    """Return a network of timm without its classifier, in training mode.

    Args:
        name: timm's name, with or without the tag of its weights
        size: side of the images that it will see; None: the one that it was made for
        stem: of a residual network; small: a first layer 3 x 3, stride 1, no pooling: for images up to 64 pixels;
            pooled: such a layer, then the pooling
        zero_init: a residual network's branches start at zero (Barlow Twins: yes; TWIST: no)
        drop_path: chance of skipping a branch
        image_size: side for which position embeddings and windows are made; none: that of the images
        patch_size: side of a transformer's patches, for small images; none: the one in its name
        heads: attention heads of a transformer, a divisor of its width; none: as timm has it
        in_channels: channels of the images; 2: the Sobel gradients of gemel's images, which have 3
        pretrained: with timm's weights

    Raises:
        UserError: timm refuses the options, or the network does not take images of this size.
    """
    options: dict[str, Any] = {"num_classes": 0, "pretrained": pretrained}
    options |= {"in_chans": in_channels} if in_channels != 3 else {}
    options |= {"drop_path_rate": drop_path} if drop_path else {}
    options |= {"zero_init_last": zero_init} if _is_resnet(name) else {}
    options |= _of_transformer(name, patch_size, heads)
    if stem != "standard" and not _is_resnet(name):
        raise UserError(f"--backbone.stem {stem} is for timm's ResNets (resnet18, resnet50, ...), not {name}")
    create = partial(_created, name, stem, in_channels)
    if (found := create(options, size, image_size))[0]:
        return found[0]
    if image_size and "img_size" in found[1]:
        words = f"--backbone.image_size is for networks that are made for one size, which {name} is not"
        raise UserError(f"{words}; --image-size sets that of the images")
    side = size or image_size or _own_size(name)
    works = _what_works(name, side, partial(create, options | {"pretrained": False}, image_size=image_size))
    raise UserError(f"{name} takes no images of {side} pixels ({found[1]}); choose {works}")


def _of_transformer(name: str, patch_size: int | None, heads: int | None) -> dict[str, Any]:
    """Return timm's options of a transformer, none of another network.

    Raises:
        UserError: another network is given one of them.
    """
    asked = {"patch_size": patch_size, "heads": heads}
    if name.startswith(("vit", "deit", "test_vit")):
        named = {"patch_size": patch_size, "num_heads": heads}
        return {"dynamic_img_size": True} | {key: value for key, value in named.items() if value}
    for option, given in asked.items():
        if given:
            raise UserError(f"--backbone.{option} is for timm's vision transformers (vit_*, deit_*), not {name}")
    return {}


def _what_works(name: str, side: int, create: Callable[..., Any]) -> str:
    sizes = (*near(side)[:3], _own_size(name))
    return next((f"{one} pixels" for one in sizes if create(size=one)[0]), "another network")


def _created(
    name: str, stem: str, in_channels: int, options: dict[str, Any], size: int | None, image_size: int | None
) -> tuple[Backbone | None, str]:
    """Return a network that takes images of a size; where there is none, the reason instead.

    It is made for that size where timm's constructor takes one, else as it is.
    """
    own, reason = _own_size(name), ""
    # The width alone is cheapest to find with small images.
    sizes = [size or image_size or min(64, own), *(() if size or image_size else (own,))]
    for side in [image_size] if image_size else [size, None] if size not in (None, own) else [None]:
        try:
            more: dict[str, Any] = {"img_size": side} if side else {}
            network: Any = timm.create_model(name, **options, **more)
        except (OSError, TypeError, *REFUSALS) as error:
            if side is None:
                raise UserError(f"timm can't make {name} with {options}: {first_line(error)}") from error
            reason = first_line(error)
            continue
        if stem != "standard":
            _make_stem_small(network, in_channels, pooled=stem == "pooled")
        for one in sizes:
            try:
                return measured(network, one, in_channels=in_channels), ""
            except REFUSALS as error:
                reason = first_line(error)
    return None, reason


def _make_stem_small(network: Any, in_channels: int, *, pooled: bool) -> None:
    network.conv1 = nn.Conv2d(in_channels, network.conv1.out_channels, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    if not pooled:
        network.maxpool = nn.Identity()


def _own_size(name: str) -> int:
    """Return the side of the images that a network was made for."""
    facts = timm.get_pretrained_cfg(name)
    return 224 if facts is None else facts.input_size[-1]


def configuration(name: str, network: Any, seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what timm's config.json holds of a network without its classifier.

    Args:
        name: timm's name, with or without a tag.
        network: one of timm's.
        seen: the images that it takes: input_size, mean, std, interpolation, crop_pct and so on.
    """
    known = {key: one for key, one in dict(getattr(network, "pretrained_cfg", {})).items() if key in _OF_NETWORK}
    channels = seen["input_size"][0]
    arguments = {"model_args": {"in_chans": channels}} if channels != COLOURS else {}
    return {
        "architecture": name.partition(".")[0],
        "num_classes": 0,
        "num_features": int(network.num_features),
        **arguments,
        "pretrained_cfg": {**known, **seen, "num_classes": 0, "custom_load": False},
    }


_OF_NETWORK = ("first_conv", "classifier", "fixed_input_size", "pool_size")
"""of what timm knows of a network's weights: what holds for any weights of it"""


def for_channels(weight: Tensor, channels: int) -> Tensor:
    """Return a first layer's kernels, (O, 3, h, w), for images of other channels, as timm adapts them.

    The three kernels are repeated, and scaled so that equal channels give what they gave; of one channel summed.
    """
    return timm.models.adapt_input_conv(channels, weight.clone())


class LastBlocks(nn.Module):
    """Concatenate the class tokens of a vision transformer's last n blocks, each through the final norm.

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
        """Return features, (B, blocks · width), of normalised images (B, 3, H, W); one width more with `patches`."""
        layers = self.network.get_intermediate_layers(images, n=self.blocks, return_prefix_tokens=True, norm=True)
        parts = [prefix[:, 0] for _, prefix in layers]
        return torch.cat([*parts, layers[-1][0].mean(1)] if self.patches else parts, 1)


def _is_resnet(name: str) -> bool:
    bare = name.partition(".")[0]
    return bare in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d")
