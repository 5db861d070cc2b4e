"""gemel's networks, timm's and torchvision's: measured widths, allowed sizes, feature maps, channels, errors."""

import copy

import pytest
import torch

from gemel import backbones
from gemel.backbones.base import Backbone, check_size, features_of
from gemel.backbones.parts.sobel import sobel
from gemel.backbones.torchvision import torchvision_backbone
from gemel.errors import UserError
from gemel.settings.schema import describe, schema_of

WIDTHS = {
    "convnet": 1024,
    "narrow_resnet": 128,
    "resnet50w2": 4096,
    "resnet18": 512,
    "mobilenetv3_small_050": 1024,
    "mobilenetv4_conv_small_035": 1280,
    "ghostnet_050": 1280,
    "efficientvit_b0": 1280,
    "tf_efficientnet_lite0": 1280,
    "lcnet_035": 1280,
    "hgnetv2_b0": 2048,
    "convnext_atto": 320,
    "regnetx_002": 368,
    "densenet121": 1024,
    "vgg11": 4096,
    "test_vit": 64,
    "deit_tiny_patch16_224": 192,
    "swin_tiny_patch4_window7_224": 768,
    "levit_128s": 384,
    "gmlp_ti16_224": 128,
    "crossvit_tiny_240": 288,
}
"""by gemel's name or timm's; for many of these timm's `num_features` is another number"""


@pytest.mark.parametrize("name", WIDTHS)
def test_the_width_is_that_of_the_features(name: str) -> None:
    constructor = backbones.find(name, 64)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    backbone = constructor()
    assert all(part.training for part in backbone.modules())
    torch.set_rng_state(state)
    assert backbone.width == WIDTHS[name]
    assert backbone.eval()(torch.randn(2, 3, 64, 64)).shape == (2, WIDTHS[name])
    assert all(meaning for _, _, _, meaning in describe(schema_of(constructor)))


def test_measuring_draws_nothing_and_leaves_statistics_alone() -> None:
    import timm

    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=0, zero_init_last=True)
    after = torch.rand(1)
    torch.manual_seed(0)
    backbone = backbones.find("resnet18", 32)()
    assert torch.rand(1) == after
    for name, value in network.state_dict().items():
        assert torch.equal(value, backbone.network.state_dict()[name])


@pytest.mark.parametrize(
    ("name", "size", "told"),
    [
        ("efficientformer_l1", 64, r"takes no images of 64 pixels \(.+\); choose 224 pixels"),
        ("vit_tiny_patch16_224", 40, r"takes no images of 40 pixels \(.*divisible by patch size.*\); choose 48 pixels"),
        ("inception_v3", 32, r"takes no images of 32 pixels \(.+\); choose 299 pixels"),
    ],
)
def test_a_size_that_a_network_refuses(name: str, size: int, told: str) -> None:
    with pytest.raises(UserError, match=told):
        backbones.find(name, size)()


def test_position_embeddings_are_made_for_the_images() -> None:
    backbone = backbones.find("vit_tiny_patch16_224", 32)()
    assert backbone.network.pos_embed.shape == (1, 1 + 2 * 2, 192)
    backbone = backbones.find("vit_tiny_patch16_224", 32)(image_size=64)
    assert backbone.network.pos_embed.shape == (1, 1 + 4 * 4, 192)
    with pytest.raises(UserError, match=r"--backbone\.image_size is for networks that are made for one size, which re"):
        backbones.find("resnet18", 32)(image_size=64)


def test_views_of_another_size() -> None:
    check_size(backbones.find("resnet18", 32)(), "resnet18", 12, "--views.local_size")
    vit = backbones.find("vit_tiny_patch16_224", 64)()
    check_size(vit, "vit", 32, "--views.local_size")
    with pytest.raises(UserError, match=r"--views\.local_size 28: vit takes no .*; --views\.local_size 32 works"):
        check_size(vit, "vit", 28, "--views.local_size")
    with pytest.raises(UserError, match="choose another --backbone"):
        check_size(backbones.find("mixer_s32_224", 64)(), "mixer_s32_224", 28, "--views.local_size")


MAPS = {
    "resnet18": [(64, 16), (128, 8), (256, 4), (512, 2)],
    "convnet": [(16, 64), (32, 32), (64, 16)],
    "narrow_resnet": [(16, 32), (32, 16), (64, 8), (128, 4)],
    "efficientvit_b0": [(16, 16), (32, 8), (64, 4), (128, 2)],
    "tf_efficientnet_lite0": [(24, 16), (40, 8), (112, 4), (320, 2)],
    "swin_tiny_patch4_window7_224": [(96, 16), (192, 8), (384, 4), (768, 2)],
    "test_vit": [(64, 4)],
}


@pytest.mark.parametrize("name", MAPS)
def test_maps(name: str) -> None:
    maps = backbones.find(name, 64)().eval().maps(torch.randn(2, 3, 64, 64))
    assert [tuple(one.shape) for one in maps] == [(2, channels, side, side) for channels, side in MAPS[name]]


def test_maps_are_those_behind_the_features() -> None:
    images = torch.randn(2, 3, 64, 64)
    for backbone in (backbones.find("resnet18", 64)().eval(), torchvision_backbone("resnet18").eval()):
        assert [one.shape[1] for one in backbone.maps(images)] == [64, 128, 256, 512]
        torch.testing.assert_close(backbone.maps(images)[-1].mean((2, 3)), backbone(images))
    plain = backbones.find("convnet")(widths=(8, 16), strides=(2, 2), pool=1).eval()
    torch.testing.assert_close(plain.maps(images)[-1].mean((2, 3)), plain(images))
    vit = backbones.find("test_vit", 64)().eval()
    tokens = vit.network.forward_features(images)[:, vit.network.num_prefix_tokens :]
    torch.testing.assert_close(vit.maps(images)[0].flatten(2).transpose(1, 2), tokens)
    with pytest.raises(UserError, match="maps of VGG are not known"):
        torchvision_backbone("vgg11", 32).maps(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(("size", "side"), [(16, 4), (24, 6), (12, 3)])
def test_means_over_parts_of_the_map(size: int, side: int) -> None:
    """A map of as many positions as parts is taken as it is: these are the means, to the bit."""
    backbone, images = backbones.find("convnet")().eval(), torch.randn(2, 3, size, size)
    last = backbone.maps(images)[-1]
    assert last.shape == (2, 64, side, side)
    means = torch.nn.functional.adaptive_avg_pool2d(last, 4).flatten(1)
    assert torch.equal(backbone(images), means)


@pytest.mark.parametrize("name", ["resnet18", "convnet", "test_vit", "efficientvit_b0"])
def test_features_and_maps_by_one_pass(name: str) -> None:
    backbone, images = backbones.find(name, 64)().eval(), torch.randn(2, 3, 64, 64)
    features, maps = backbone.with_maps(images)
    torch.testing.assert_close(features, backbone(images))
    assert [one.shape[1] for one in maps] == backbone.map_channels()


def test_attention_heads() -> None:
    assert backbones.find("vit_tiny_patch16_224")(heads=6).network.blocks[0].attn.num_heads == 6
    assert backbones.find("vit_tiny_patch16_224")().network.blocks[0].attn.num_heads == 3
    with pytest.raises(UserError, match=r"--backbone\.heads is for timm's vision transformers"):
        backbones.find("resnet18")(heads=3)


def test_a_copy_has_its_own_maps() -> None:
    """A teacher is a copy: what it keeps must not point to the student."""
    backbone = backbones.find("resnet18", 32)().eval()
    other = copy.deepcopy(backbone)
    torch.nn.init.zeros_(other.network.layer4[1].conv2.weight)
    torch.nn.init.zeros_(other.network.layer1[0].conv1.weight)
    images = torch.randn(1, 3, 32, 32)
    first, second = backbone.maps(images), other.maps(images)
    torch.testing.assert_close(second[-1].mean((2, 3)), other(images))
    assert len(other.network.layer1._forward_hooks) == 0
    assert len(first) == len(second) == 4


@pytest.mark.parametrize("name", ["resnet18", "convnet", "test_vit"])
def test_channels(name: str) -> None:
    backbone = backbones.find(name, 32)(in_channels=4).eval()
    assert backbone(torch.randn(2, 4, 32, 32)).shape == (2, backbone.width)
    with pytest.raises(UserError, match=r"takes images of 4 channels, not 3; set --backbone\.in_channels 3"):
        backbone(torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize("name", ["resnet18", "convnet"])
def test_two_channels_are_gradients(name: str) -> None:
    """Colours are not seen, nor is a constant, but at the edges."""
    backbone = backbones.find(name, 32)(in_channels=2).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(backbone(images), backbone(sobel(images)))
    torch.testing.assert_close(backbone.maps(images)[0], backbone.maps(images.flip(1))[0])
    assert not bool(sobel(torch.ones(1, 3, 8, 8))[..., 1:-1, 1:-1].any())


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [
        ("resnet50", 32, 2048),
        ("vit_b_32", 64, 768),
        ("convnext_tiny", 32, 768),
        ("mobilenet_v3_small", 32, 1024),
        ("densenet121", 32, 1024),
        ("googlenet", 32, 1024),
    ],
)
def test_torchvision_s_networks_lose_their_last_layer(name: str, size: int, width: int) -> None:
    backbone = torchvision_backbone(name, size)
    assert backbone.width == width
    images = torch.zeros(2, 3, size, size)
    assert backbone(images).shape == backbone.eval()(images).shape == (2, width)


def test_a_size_that_torchvision_s_network_refuses() -> None:
    with pytest.raises(UserError, match=r"inception_v3 takes no images of 64 pixels \(.+\); choose 224 pixels"):
        torchvision_backbone("inception_v3", 64)


@pytest.mark.parametrize(("stem", "side"), [("small", 4), ("pooled", 2), ("standard", 1)])
def test_stems(stem: str, side: int) -> None:
    """What is not standard keeps the map large."""
    network = backbones.find("resnet18")(stem=stem).network
    assert network.eval().forward_features(torch.randn(1, 3, 32, 32)).shape[-1] == side
    assert network.conv1.stride == ((2, 2) if stem == "standard" else (1, 1))


def test_views_of_one_size_share_a_pass() -> None:
    sizes: list[tuple[int, ...]] = []

    class Counting(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            sizes.append(tuple(images.shape))
            return images.mean((2, 3))

    views = [torch.full((2, 3, size, size), float(index)) for index, size in enumerate((8, 8, 4, 4, 4))]
    features = features_of(Backbone(Counting(), 3), views)
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
