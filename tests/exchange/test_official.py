"""Official checkpoints of both ages become runs and come back; nothing in a file is run."""

import pickle
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

import gemel
from conftest import write_photos
from gemel.backbones.timm import timm_backbone
from gemel.cli import main
from gemel.errors import UserError
from gemel.train.checkpoints import load_method

HIDDEN, CLASSES = 24, 12


def network(seed: int = 0) -> nn.Module:
    """A backbone by torchvision's names, its running statistics not as at first."""
    torch.manual_seed(seed)
    made = resnet18()
    made.fc = nn.Identity()
    made.train()
    made(torch.randn(8, 3, 32, 32))
    return made.eval()


def head(width: int, seed: int = 0) -> dict[str, nn.Module]:
    """The official head, layer by layer: number 3 of the first part is a dropout."""
    torch.manual_seed(seed)
    return {
        "projection_head.0": nn.Linear(width, HIDDEN),
        "projection_head.1": nn.BatchNorm1d(HIDDEN),
        "projection_head.4": nn.Linear(HIDDEN, HIDDEN),
        "projection_head.5": nn.BatchNorm1d(HIDDEN),
        "last_linear": nn.Linear(HIDDEN, CLASSES),
        "norm": nn.BatchNorm1d(CLASSES, affine=False),
    }


def names(backbone: nn.Module, layers: dict[str, nn.Module], *, older: bool = False) -> dict[str, Tensor]:
    tensors = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    for part, layer in layers.items():
        module = {"last_linear": "cls_heads.0.0", "norm": "cls_heads.0.1"}.get(part, part) if older else part
        tensors |= {f"projection_heads.{module}.{name}": value for name, value in layer.state_dict().items()}
    return tensors


def official(path: Path, model: dict[str, Tensor], **more: Any) -> Path:
    args = Namespace(lr=0.5, aug="multicrop", crops=[0.4, 1.0], resume=None)
    torch.save({"model": model, "epoch": 7, "args": args, "optimizer": {"state": {}}, **more}, path)
    return path


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("older", [False, True], ids=["new", "older"])
def test_twist_and_back(older: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backbone, layers = network(), head(512)
    file = official(tmp_path / "checkpoint.pth", names(backbone, layers, older=older))
    with pytest.raises(SystemExit) as left:
        main(["import", str(file), "--out", str(tmp_path / "run")])
    assert left.value.code == 0
    assert "twist, resnet18, 512 features, with its heads" in capsys.readouterr().out
    run = gemel.load(tmp_path / "run")
    assert run.settings["classes"] == CLASSES
    assert run.settings["method"]["hidden"] == HIDDEN
    images = torch.randn(4, 3, 64, 64)
    features = backbone(images)
    torch.testing.assert_close(gemel.backbone(run)(images), features)
    logits = features
    for part, layer in layers.items():
        logits = layer.eval()(logits)
        logits = logits.relu() if part in ("projection_head.1", "projection_head.5") else logits
    torch.testing.assert_close(load_method(run).classify(features), logits.softmax(1))
    back = torch.load(gemel.export(run, "official"), weights_only=False)
    assert same(back["model"], names(backbone, layers))
    assert same(back["backbone"], dict(backbone.state_dict()))


def test_the_run_is_taken_by_the_commands(tmp_path: Path) -> None:
    run = gemel.import_official(official(tmp_path / "a.pth", names(network(), head(512))), tmp_path / "run")
    write_photos(tmp_path / "photos", 8)
    assert gemel.embed(run, tmp_path / "photos").num_rows == 8
    classes = gemel.classify(run, tmp_path / "photos")
    assert all(0 <= one < CLASSES for one in classes.column("class").to_pylist())
    assert gemel.evaluate(run, "knn", tmp_path / "photos", labels="folders", k=3).metrics["top1"] >= 0
    assert gemel.report([run]).is_file()


def test_transformer_with_its_teacher(tmp_path: Path) -> None:
    student, teacher = (timm_backbone("vit_tiny_patch16_224", image_size=32).network for _ in range(2))
    models = [names(one, head(192, seed)) for seed, one in enumerate((student, teacher))]
    file = official(tmp_path / "vit.pth", models[0], teacher=models[1], teacher_backbone=teacher.state_dict())
    run = gemel.import_official(file, tmp_path / "run")
    assert run.settings["image_size"] == 32
    assert {"form": "transformer", "teacher": True}.items() <= run.settings["method"].items()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(gemel.backbone(run)(images), teacher.eval()(images))
    back = torch.load(gemel.export(run, "official", tmp_path / "back.pth"), weights_only=False)
    assert same(back["model"], models[0])
    assert same(back["teacher"], models[1])
    assert same(back["teacher_backbone"], dict(teacher.state_dict()))


def test_barlow_twins_and_back(tmp_path: Path) -> None:
    backbone, width = network(), 16
    projector = nn.Sequential(
        *(nn.Linear(512, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()),
        *(nn.Linear(width, 20, bias=False), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, width, bias=False)),
    )
    model = {f"module.backbone.{name}": value for name, value in backbone.state_dict().items()}
    model |= {f"module.projector.{name}": value for name, value in projector.state_dict().items()}
    model |= {f"module.bn.{name}": value for name, value in nn.BatchNorm1d(width, affine=False).state_dict().items()}
    run = gemel.import_official(official(tmp_path / "b.pth", model), tmp_path / "run")
    assert run.settings["method"]["projector"] == [width, 20, width]
    features = torch.randn(3, 512)
    torch.testing.assert_close(load_method(run).embed(features), projector.eval()(features))
    assert same(torch.load(gemel.export(run, "official"), weights_only=True)["model"], model)


def test_a_bare_backbone(tmp_path: Path) -> None:
    backbone = network()
    torch.save(backbone.state_dict(), tmp_path / "resnet.pth")
    run = gemel.import_official(tmp_path / "resnet.pth", tmp_path / "run", method="barlow_twins")
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(gemel.backbone(run)(images), backbone(images))
    write_photos(tmp_path / "photos", 2)
    with pytest.raises(UserError, match="no checkpoint, and so no classes"):
        gemel.classify(run, tmp_path / "photos")


class Malicious:
    """What a checkpoint could hold to run code when it is read."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.place,))


@pytest.mark.parametrize("within", ["args", "namespace", "pickle"])
def test_a_malicious_file_runs_nothing(within: str, tmp_path: Path) -> None:
    place, file = tmp_path / "was-here", tmp_path / "bad.pth"
    bad = Malicious(place)
    if within == "pickle":
        file.write_bytes(pickle.dumps(bad, protocol=2))
    else:
        official(file, names(network(), head(512)), args=bad if within == "args" else Namespace(inner=bad))
    with pytest.raises(UserError, match="can't be read as tensors"):
        gemel.import_official(file, tmp_path / "run")
    assert not place.exists()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda model: model.pop("backbone.layer2.0.conv1.weight"), "layer2.0.conv1.weight is missing"),
        (lambda model: model.pop("backbone.conv1.weight"), "of no ResNet or vision transformer known here"),
        (lambda model: model.pop("projection_heads.last_linear.weight"), r"layers \[6\] are missing"),
        (lambda model: model.update({"projection_heads.cls_heads.1.0.weight": torch.ones(1)}), "which no known form"),
        (lambda model: model.update({"epoch": 3}), "is no official checkpoint"),
    ],
)
def test_files_that_do_not_fit(change: Any, told: str, tmp_path: Path) -> None:
    model = names(network(), head(512))
    change(model)
    with pytest.raises(UserError, match=told):
        gemel.import_official(official(tmp_path / "a.pth", model), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_networks_that_the_official_code_lacks(digits_run: gemel.Run) -> None:
    with pytest.raises(UserError, match="has ResNets and vision transformers, not convnet"):
        gemel.export(digits_run, "official")
    with pytest.raises(UserError, match="format 'officials' is unknown; there are official; did you mean official"):
        gemel.export(digits_run, "officials")
