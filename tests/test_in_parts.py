"""A batch that the network sees in parts: the same gradient and statistics, a part's memory."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gemel
from gemel import methods
from gemel.backbones.base import Backbone
from gemel.backbones.convnet import convnet
from gemel.backbones.parts import in_parts
from gemel.errors import UserError
from gemel.methods.base import Method
from hooks import batch_of, begun

PART = 5
"""of 12 images and their views: parts of unequal sizes"""


def built(name: str) -> Method:
    torch.manual_seed(0)
    kind = methods.find(name)
    return begun(kind(convnet(widths=(8, 8), strides=(2, 2)), **kind.small)).double()


def gradient_of(method: Method) -> tuple[Tensor, Tensor]:
    """Loss, and all gradients as one vector, of a batch."""
    batch = batch_of(method)
    views, partners = ([one.double() for one in part] for part in (batch.views, batch.partners))
    torch.manual_seed(1)
    loss = method(batch._replace(views=views, partners=partners), 0.5)["loss"]
    loss.backward()
    found = [one.grad.flatten() for one in method.parameters() if one.grad is not None]
    return loss.detach(), torch.cat(found)


@pytest.mark.parametrize("name", methods.available())
def test_the_gradient_is_the_whole_batches(name: str) -> None:
    """Of every method, where the network's norms keep their statistics: then nothing in it looks at the batch."""
    whole = built(name)
    for network in [one for one in whole.modules() if isinstance(one, Backbone)]:  # a teacher's too
        network.eval()
    parts = copy.deepcopy(whole)
    for one in parts.modules():
        if isinstance(one, Backbone):
            one.part = PART
    (loss, wanted), (own, found) = gradient_of(whole), gradient_of(parts)
    torch.testing.assert_close(own, loss, rtol=1e-10, atol=1e-12)
    assert float((found - wanted).norm() / wanted.norm()) < 1e-9


class Drops(nn.Module):
    """A network with everything that depends on the batch or on chance."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).mean((2, 3))


def test_norms_and_dropout_see_each_part_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look draws what the first has drawn, and leaves the running statistics alone."""
    torch.manual_seed(0)
    networks = [Backbone(Drops().double(), 4)]
    networks.append(copy.deepcopy(networks[0]))
    images, weights = torch.randn(12, 3, 8, 8, dtype=torch.float64), torch.randn(12, 4, dtype=torch.float64)
    for network in networks:
        network.part = PART
        torch.manual_seed(2)
        (network(images) * weights).sum().backward()
        monkeypatch.setattr(in_parts, "checkpoint", lambda look, part, **options: look(part))  # the other one keeps all
    for one, two in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert one.grad is not None and two.grad is not None
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-12, atol=1e-12)
    for one, two in zip(networks[0].buffers(), networks[1].buffers(), strict=True):
        assert torch.equal(one, two)


def test_maps_come_in_parts_too() -> None:
    network = convnet(widths=(8, 8), strides=(2, 2)).eval()
    images = torch.randn(12, 3, 16, 16)
    features, maps = network.with_maps(images)
    network.part = PART
    own, parts = network.with_maps(images)
    torch.testing.assert_close(own, features)
    torch.testing.assert_close(parts, maps)


def kept_bytes(network: Backbone, images: Tensor) -> int:
    """Bytes that a forward pass leaves behind, each storage once."""
    found: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(images)
    return sum(size for size, _ in found.values())


def test_little_is_kept() -> None:
    network, images = convnet(widths=(16, 16), strides=(1, 2)), torch.randn(64, 3, 16, 16)
    whole = kept_bytes(network, images)
    each = in_parts.activation_bytes(network.network, 16, 3)
    assert 0.9 < (whole / 64) / each < 1.2, "an image's share, but for the weights"
    network.part = 4
    assert kept_bytes(network, images) < whole / 10, "images and weights"


def test_memory_sets_the_part(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = {"image_size": 32, "batch_size": 16, "epochs": 1, "threads": 1, "workers": 0, "method": "barlow_twins"}
    network = {"backbone": {"name": "convnet", "widths": [8, 8], "strides": [1, 2]}, "method.projector": [16, 16]}
    with pytest.raises(UserError, match=r"--memory 0\.2MB: parameters and views take 0\.0\d GB, and two"):
        gemel.pretrain(photos, out=tmp_path / "none", memory="0.2MB", **small, **network)
    run = gemel.pretrain(photos, out=tmp_path / "run", memory="1MB", **small, **network)
    part = run.settings["part"]
    assert 2 <= part < 32
    assert f"part: {part} (1MB: a view leaves " in capsys.readouterr().out
    again = gemel.pretrain(photos, out=tmp_path / "again", part=part, **small, **network)
    assert (again.path / "backbone.safetensors").read_bytes() == (run.path / "backbone.safetensors").read_bytes()
    whole = gemel.pretrain(photos, out=tmp_path / "whole", memory="4GB", **small, **network)
    assert whole.settings["part"] is None
    with pytest.raises(UserError, match="is no number of MB or GB"):
        gemel.pretrain(photos, out=tmp_path / "none", memory="much", **small)
