"""gemel's networks and timm's: features, widths, the small stem, errors."""

import pytest
import torch

from gemel import backbones
from gemel.backbones.base import features_of
from gemel.errors import UserError
from gemel.settings.schema import describe, schema_of

NAMES = [*backbones.available(), "resnet18", "deit_tiny_patch16_224", "efficientnet_b0"]


@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_width_that_is_told(name: str) -> None:
    constructor = backbones.find(name)
    backbone = constructor(image_size=32) if "deit" in name else constructor()
    assert backbone.eval()(torch.randn(2, 3, 32, 32)).shape == (2, backbone.width)
    assert all(meaning for _, _, _, meaning in describe(schema_of(constructor)))


def test_small_stem_keeps_the_map_large() -> None:
    small, standard = (backbones.find("resnet18")(stem=stem).network for stem in ("small", "standard"))
    images = torch.randn(1, 3, 32, 32)
    assert small.eval().forward_features(images).shape[-1] == 4
    assert standard.eval().forward_features(images).shape[-1] == 1
    assert small.conv1.stride == (1, 1)


def test_views_of_one_size_share_a_pass() -> None:
    sizes: list[tuple[int, ...]] = []

    class Counting(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append(tuple(images.shape))
            return images.mean((2, 3))

    views = [torch.full((2, 3, size, size), float(place)) for place, size in enumerate((8, 8, 4, 4, 4))]
    features = features_of(Counting(), views)
    assert sizes == [(4, 3, 8, 8), (6, 3, 4, 4)]
    assert features[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4], "view after view"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet18x", {}, "did you mean"),
        ("efficientnet_b0", {"stem": "small"}, "is for timm's ResNets"),
        ("convnet", {"widths": (8,), "strides": (1, 1)}, "one stride for each width"),
    ],
)
def test_what_cannot_be_made(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        backbones.find(name)(**options)
