"""MoCo v3's vision transformer: fixed sine positions, a frozen patch projection, its own initial weights."""

from math import sqrt
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gemel.backbones.base import Backbone
from gemel.backbones.timm import timm_backbone
from gemel.errors import UserError
from gemel.settings.recipes import Count, Side


def vit_sine(
    *,
    size: Literal["tiny", "small", "base", "large"] = "small",
    heads: Count = 12,
    image_size: Side = 224,
    patch_size: Annotated[int, Field(ge=1, le=128)] = 16,
    frozen_patches: bool = True,
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
) -> Backbone:
    """Return a vision transformer whose position embeddings are sines and cosines that do not learn.

    Args:
        size: width and depth, as in the names of timm's
        heads: attention heads; a divisor of the width: MoCo v3 has 12 in small and base
        image_size: side for which positions are made; other sizes interpolate them
        patch_size: side of a patch
        frozen_patches: the patches' projection keeps its random weights, which made training stable
        drop_path: chance of skipping a branch

    Raises:
        UserError: the heads do not divide the width, or the patches do not fit the image size.
    """
    backbone = timm_backbone(
        f"vit_{size}_patch16_224", heads=heads, image_size=image_size, patch_size=patch_size, drop_path=drop_path
    )
    network: Any = backbone.network
    width = network.embed_dim
    if width % 4:
        raise UserError(f"sine positions need a width that is a multiple of 4, not {width}")
    _initialise(network, width)
    rows, columns = network.patch_embed.grid_size
    token = torch.zeros(1, 1, width)
    network.pos_embed = nn.Parameter(torch.cat([token, sine_positions(rows, columns, width)], 1), requires_grad=False)
    network.patch_embed.proj.requires_grad_(not frozen_patches)
    return backbone


def sine_positions(rows: int, columns: int, width: int) -> Tensor:
    """Return [sin(x ω), cos(x ω), sin(y ω), cos(y ω)] of each patch, ω_m = 10000^(-4m / width), (1, patches, width).

    x changes along the rows of the grid and y within a row, as in MoCo v3's code, whose names are the other way round.
    """
    omega = 10000 ** (-torch.arange(width // 4, dtype=torch.float32) / (width // 4))
    x, y = torch.meshgrid(
        torch.arange(columns, dtype=torch.float32), torch.arange(rows, dtype=torch.float32), indexing="ij"
    )
    along, across = x.flatten()[:, None] * omega, y.flatten()[:, None] * omega
    return torch.cat([along.sin(), along.cos(), across.sin(), across.cos()], 1)[None]


def _initialise(network: Any, width: int) -> None:
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.bias)
            if name.endswith("qkv"):  # three square matrices, not one
                bound = sqrt(6 / (2 * width))
                nn.init.uniform_(layer.weight, -bound, bound)
            else:
                nn.init.xavier_uniform_(layer.weight)
    patches = network.patch_embed.proj
    bound = sqrt(6 / (patches.weight[0].numel() + width))
    nn.init.uniform_(patches.weight, -bound, bound)
    nn.init.zeros_(patches.bias)
    nn.init.normal_(network.cls_token, std=1e-6)
