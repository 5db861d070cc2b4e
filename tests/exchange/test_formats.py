"""What is exported is loaded strictly by the library that it is for, and gives the same features of real images."""

import json
import pickle
import re
import shlex
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

import gemel
from conftest import write_photos
from gemel import exchange
from gemel.backbones.timm import timm_backbone
from gemel.cli.main import main
from gemel.engine.checkpoints import read_tensors
from gemel.errors import UserError
from gemel.exchange import onnx
from gemel.runs.run import Run

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "exchange.md"


def run_of(network: nn.Module, folder: Path) -> Run:
    """A run of a bare backbone whose tensors are all of them drawn."""
    torch.manual_seed(0)
    tensors = {
        name: value if value.ndim == 0 else torch.rand(value.shape) * 0.1 + (0.5 if name.endswith("running_var") else 0)
        for name, value in network.state_dict().items()
    }
    folder.mkdir(exist_ok=True)
    torch.save(tensors, folder / "bare.pth")
    return gemel.import_official(folder / "bare.pth", folder / "run")


@pytest.fixture(scope="module")
def resnet_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(timm_backbone("resnet18").network, tmp_path_factory.mktemp("resnet"))


@pytest.fixture(scope="module")
def transformer_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(timm_backbone("deit_tiny_patch16_224").network, tmp_path_factory.mktemp("transformer"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    """Photographs of the side that ImageNet's networks take, as floats."""
    paths = write_photos(tmp_path_factory.mktemp("images"), 2, side=(224, 224))
    read = [pil_to_tensor(Image.open(path)) for path in paths]
    return torch.stack(read).float() / 255 - 0.5


def same_features(run: Run, network: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        features = gemel.backbone(run)(images)
        assert features.std() > 0
        torch.testing.assert_close(network.eval()(images), features)


def test_the_folder_is_the_list(digits_run: Run) -> None:
    assert exchange.available() == [
        "detectron2",
        "huggingface",
        "official",
        "onnx",
        "safetensors",
        "timm",
        "torchvision",
    ]
    with pytest.raises(
        UserError,
        match=r"'officials' is unknown; there are detectron2, .*, official, .*; did you mean official",
    ):
        gemel.export(digits_run, "officials")


@pytest.mark.parametrize("fixture", ["resnet_run", "transformer_run"])
def test_timm(fixture: str, images: Tensor, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(fixture)
    name = run.backbone_facts["name"]
    file = gemel.export(run, "timm")
    assert file == run.path / "timm.safetensors"
    same_features(run, timm.create_model(name, num_classes=0, checkpoint_path=str(file)), images)
    network = timm.create_model(name, num_classes=0)
    network.load_state_dict(torch.load(gemel.export(run, "timm", tmp_path / "a.pth"), weights_only=True), strict=True)
    same_features(run, network, images)


def test_torchvision(resnet_run: Run, images: Tensor) -> None:
    network = torchvision.models.resnet18()
    network.fc = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    network.load_state_dict(torch.load(gemel.export(resnet_run, "torchvision"), weights_only=True), strict=True)
    same_features(resnet_run, network, images)


class Layer(nn.Conv2d):
    """Detectron2's convolution: its norm belongs to it."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int) -> None:
        super().__init__(inputs, outputs, side, stride, side // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, input: Tensor) -> Tensor:
        return self.norm(super().forward(input))


class Block(nn.Module):
    """Detectron2's basic block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut = Layer(inputs, outputs, 1, stride) if inputs != outputs else nn.Identity()
        self.conv1, self.conv2 = Layer(inputs, outputs, 3, stride), Layer(outputs, outputs, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return (self.conv2(self.conv1(images).relu()) + self.shortcut(images)).relu()


class Resnet18(nn.Module):
    """Detectron2's ResNet-18, by its documented names: stem, res2 to res5."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleDict({"conv1": Layer(3, 64, 7, 2)})
        self.res2, self.res3, self.res4, self.res5 = (
            nn.Sequential(Block(inputs, outputs, 1 if inputs == outputs else 2), Block(outputs, outputs, 1))
            for inputs, outputs in ((64, 64), (64, 128), (128, 256), (256, 512))
        )

    def forward(self, images: Tensor) -> Tensor:
        images = nn.functional.max_pool2d(self.stem["conv1"](images).relu(), 3, 2, 1)
        return self.res5(self.res4(self.res3(self.res2(images)))).mean((2, 3))


def test_detectron2(resnet_run: Run, images: Tensor) -> None:
    """Detectron2 itself is in no registry; what stands here follows its names."""
    with gemel.export(resnet_run, "detectron2").open("rb") as file:
        content = pickle.load(file)
    assert (content["__author__"], content["matching_heuristics"]) == ("gemel", True)
    network = Resnet18()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in content["model"].items()}, strict=True)
    same_features(resnet_run, network, images)
    with pytest.raises(UserError, match=r"must end in \.pkl"):
        gemel.export(resnet_run, "detectron2", resnet_run.path / "a.pth")


@pytest.mark.parametrize("fixture", ["resnet_run", "transformer_run", "digits_run"])
def test_onnx(fixture: str, images: Tensor, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(fixture)
    facts = run.backbone_facts
    file = gemel.export(run, "onnx")
    assert file == run.path / f"{facts['name']}.onnx"
    session: Any = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    told = json.loads(session.get_modelmeta().custom_metadata_map["gemel"])
    classes = [[number, str(number)] for number in range(10)]
    assert told == facts | ({"classes": classes} if fixture == "digits_run" else {})
    side = int(facts["size"])
    photos = torch.cat([images, images.flip(2), images.flip(3)])[:, :, :side, :side]
    for count in (1, 5):
        crops = photos[:count]
        (found,) = session.run(["features"], {"images": crops.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), gemel.backbone(run)(crops), rtol=1e-4, atol=1e-4)


def test_onnx_without_its_packages(digits_run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"needs the package onnxscript: pip install onnx onnxscript onnxruntime"):
        gemel.export(digits_run, "onnx", tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_a_wrong_graph_is_not_kept(digits_run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:

    def of_another(network: nn.Module, shape: Any, made: Any = onnx._graph) -> Any:
        other = deepcopy(network)
        next(other.parameters()).data += 0.1
        return made(other, shape)

    monkeypatch.setattr(onnx, "_graph", of_another)
    with pytest.raises(RuntimeError, match="the ONNX graph's features differ by"):
        gemel.export(digits_run, "onnx", tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fixture", ["resnet_run", "transformer_run", "digits_run"])
def test_safetensors(fixture: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(fixture)
    file = gemel.export(run, "safetensors", tmp_path / "network.safetensors")
    facts = json.loads((tmp_path / "network.json").read_text(encoding="utf-8"))
    assert {"name", "options", "width", "size", "mean", "std"} <= facts.keys()
    tensors, own = load_file(file), read_tensors(run.backbone_path)
    assert tensors.keys() == own.keys()
    assert all(torch.equal(tensors[name], own[name]) for name in own)
    if fixture != "digits_run":
        assert gemel.export(run, "safetensors").name == f"{facts['name']}.safetensors"
        timm.create_model(facts["name"], num_classes=0).load_state_dict(tensors, strict=True)


def test_networks_without_names(transformer_run: Run, digits_run: Run, tmp_path: Path) -> None:
    def told(run: Run, format: str, match: str, **options: Any) -> None:
        with pytest.raises(UserError, match=match):
            gemel.export(run, format, **options)

    told(transformer_run, "torchvision", "torchvision does not load this deit_tiny.* its ResNets are resnet101")
    told(digits_run, "torchvision", "torchvision does not load this convnet.*gemel export RUN safetensors")
    told(digits_run, "detectron2", "Detectron2 does not load this convnet: its ResNets are resnet101")
    told(digits_run, "timm", "timm does not load this convnet: it is gemel's own network")
    told(transformer_run, "timm", r"must end in \.safetensors or", out=tmp_path / "a.onnx")
    other = run_of(timm_backbone("deit_tiny_patch16_224", image_size=32).network, tmp_path / "other")
    told(other, "timm", r"pos_embed is \(1, 5, 192\), not \(1, 197, 192\)")
    stem = tmp_path / "stem"
    write_photos(tmp_path / "photos", 4)
    options = {"epochs": 1, "image_size": 32, "batch_size": 2, "workers": 0, "threads": 1, "quiet": True}
    options |= {"backbone.stem": "small", "classes": 4, "method.hidden": 16}
    small = gemel.pretrain(tmp_path / "photos", out=stem, backbone="resnet18", **options)
    for format, library in (("timm", "timm"), ("torchvision", "torchvision"), ("detectron2", "Detectron2")):
        told(small, format, rf"{library} does not load this resnet18: conv1\.weight is \(64, 3, 3, 3\), not")
    told(small, "official", "not resnet18 with a small stem")


def test_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands in their order, in a folder that holds what they name."""
    torch.manual_seed(0)
    backbone = torchvision.models.resnet18()
    backbone.fc = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    tensors = backbone.state_dict()
    projector = {"projector.0.weight": torch.rand(8, 512) - 0.5}
    norm = {f"bn.{name}": value for name, value in nn.BatchNorm1d(8, affine=False).state_dict().items()}
    model = {f"backbone.{name}": value for name, value in tensors.items()} | projector | norm
    torch.save(
        {"epoch": 1, "model": {f"module.{name}": one for name, one in model.items()}}, tmp_path / "checkpoint.pth"
    )
    torch.save(tensors, tmp_path / "resnet50.pth")
    write_photos(tmp_path / "photos", 24)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```bash\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    assert len(lines) >= 6
    fast = ["--epochs", "1", "--image-size", "32", "--batch-size", "4", "--workers", "0", "--threads", "1"]
    for line in lines:
        words = shlex.split(line.replace("--backbone resnet50", "--backbone resnet18"))[1:]
        with pytest.raises(SystemExit) as left:
            main(words + (fast if words[0] == "pretrain" else []))
        assert left.value.code == 0, line
