"""FCN: its dilation beside torchvision's and timm's, its size, its loss, its windows."""

import timm
import torch
from torch import nn
from torchvision.models import resnet50

from gemel.backbones.parts.stages import Stages
from gemel.supervised.dense.recipes import SEGMENTING
from gemel.supervised.dense.segmenter import Segmenter, logits_of
from narrow_resnets import narrow_resnet50

TWIST = SEGMENTING["twist"]["voc"]


def maps_of(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    recipe = TWIST.model_copy(update={"channels": 4, "auxiliary": 0})
    with torch.no_grad():
        return Segmenter(Stages(network), 2, recipe).eval().stages(images)


def test_dilation_is_torchvisions_and_timms() -> None:
    torch.manual_seed(0)
    images = torch.randn(1, 3, 65, 48)
    wanted = resnet50(replace_stride_with_dilation=[False, True, True])
    plain = resnet50()
    plain.load_state_dict(wanted.state_dict())
    third, fourth = maps_of(plain, images)[2:]
    with torch.no_grad():
        rows = wanted.eval().maxpool(wanted.relu(wanted.bn1(wanted.conv1(images))))
        expected = wanted.layer3(wanted.layer2(wanted.layer1(rows)))
        assert torch.equal(third, expected)
        assert torch.equal(fourth, wanted.layer4(expected))
    for name in ("resnet18", "resnet34"):
        dilated = timm.create_model(name, num_classes=0, output_stride=8, zero_init_last=False).eval()
        own = timm.create_model(name, num_classes=0, zero_init_last=False)
        own.load_state_dict(dilated.state_dict())
        with torch.no_grad():
            assert torch.equal(maps_of(own, images)[3], dilated.forward_features(images))


def test_parameters() -> None:
    for classes, expected in ((21, 49_480_042), (19, 49_478_502)):
        with torch.device("meta"):
            network = resnet50()
            network.fc = nn.Identity()  # pyright: ignore
            made = Segmenter(Stages(network), classes, TWIST)
        assert sum(one.numel() for one in made.parameters()) == expected


def test_ignored_pixels_do_not_count_in_the_sum() -> None:
    torch.manual_seed(0)
    network = Segmenter(Stages(narrow_resnet50()), 3, TWIST.model_copy(update={"channels": 4, "auxiliary": 4})).train()
    for part in network.modules():
        if isinstance(part, nn.Dropout2d):
            part.p = 0.0
    images, labels = torch.randn(2, 3, 64, 64), torch.full((2, 64, 64), 255)
    assert network(images, labels).tolist() == [0, 0]
    labels[0, :8] = 1
    one = network(images, labels)
    labels[0, 8:16] = 1
    assert bool((network(images, labels) > one).all())


def test_windows_cover_the_image() -> None:
    class Positions(nn.Module):
        """Logits that tell how far right a pixel is: the same in every window that holds it."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :1]

    image = torch.arange(70.0).expand(1, 3, 50, 70)
    found = logits_of(Positions(), image, test="windows", side=32, stride=20)  # pyright: ignore
    torch.testing.assert_close(found, image[:, :1])
