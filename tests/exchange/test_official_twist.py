"""TWIST's official checkpoints of both ages become runs and come back; nothing in a file is run."""

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
from gemel import backbones
from gemel.backbones.timm import timm_backbone
from gemel.cli.main import main
from gemel.engine.checkpoints import differences
from gemel.engine.pretrained_weights import start_from
from gemel.errors import UserError
from gemel.exchange.official import layout, twist
from gemel.methods.twist import Twist
from gemel.training.build import load_method

HIDDEN, CLASSES = 24, 12
Layouts = dict[str, dict[str, list[int]]]


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
    assert run.settings["method"]["recipe"] == "resnet50-multicrop"
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
    assert back["epoch"] == 7


def test_the_run_is_taken_by_the_commands(tmp_path: Path) -> None:
    run = gemel.import_official(official(tmp_path / "a.pth", names(network(), head(512))), tmp_path / "run")
    write_photos(tmp_path / "photos", 8)
    assert gemel.embed(run, tmp_path / "photos").num_rows == 8
    classes = gemel.classify(run, tmp_path / "photos")
    assert all(0 <= one < CLASSES for one in classes.column("class").to_pylist())
    assert gemel.evaluate(run, "knn", tmp_path / "photos", labels="folders", k=3).metrics["top1"] >= 0
    assert gemel.report([run]).is_file()
    with pytest.raises(UserError, match=r"was imported from a\.pth; only a run that gemel pretrain began can go on"):
        gemel.resume(run)
    with pytest.raises(UserError, match=r"name the images: .*run was imported from a\.pth"):
        gemel.evaluate(run, "knn")


def test_weights_of_official_files(tmp_path: Path) -> None:
    """The teacher's backbone where there is one, in whatever part of the file it lies."""
    photos, student, teacher = tmp_path / "photos", network(), network(1)
    write_photos(photos, 4)
    tensors = names(student, head(512))
    files = {
        official(tmp_path / "student.pth", tensors, backbone=student.state_dict()): student,
        official(tmp_path / "model.pth", tensors): student,
        official(tmp_path / "teacher.pth", tensors, teacher=tensors, teacher_backbone=teacher.state_dict()): teacher,
    }
    for file, wanted in files.items():
        backbone = timm_backbone("resnet18")
        start_from(backbone, str(file))
        assert same(backbone.network.state_dict(), dict(wanted.state_dict()))
    run = gemel.import_official(tmp_path / "student.pth", tmp_path / "run")
    options = {"epochs": 1, "image_size": 32, "batch_size": 2, "workers": 0, "threads": 1, "quiet": True}
    for number, weights in enumerate((tmp_path / "student.pth", run)):
        more = {"optimizer.lr": 1e-12, "method.hidden": 16, "classes": 4, "backbone.stem": "standard"}
        begun = gemel.pretrain(
            photos, out=tmp_path / f"begun-{number}", weights=weights, backbone="resnet18", **options, **more
        )
        torch.testing.assert_close(gemel.backbone(begun).network.conv1.weight, student.conv1.weight)


def test_the_best_of_several_heads_is_written(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 8)
    options = {"backbone": "resnet18", "backbone.stem": "standard", "method.heads": 3, "method.hidden": 16}
    options |= {"classes": 4, "epochs": 2, "image_size": 32, "batch_size": 4, "workers": 0, "threads": 1}
    run = gemel.pretrain(tmp_path / "photos", out=tmp_path / "run", quiet=True, **options)
    file = gemel.export(run, "official")
    assert torch.load(file, weights_only=False)["epoch"] == 1, "the last finished one, counted from 0"
    features = torch.randn(5, 512)
    again = load_method(gemel.import_official(file, tmp_path / "again"))
    torch.testing.assert_close(again.classify(features), load_method(run).classify(features))


def test_transformer_with_its_teacher(tmp_path: Path) -> None:
    student, teacher = (timm_backbone("vit_tiny_patch16_224", image_size=32).network for _ in range(2))
    models = [names(one, head(192, seed)) for seed, one in enumerate((student, teacher))]
    file = official(tmp_path / "vit.pth", models[0], teacher=models[1], teacher_backbone=teacher.state_dict())
    run = gemel.import_official(file, tmp_path / "run")
    assert run.settings["image_size"] == 32
    assert {"head_style": "transformer", "teacher": True}.items() <= run.settings["method"].items()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(gemel.backbone(run)(images), teacher.eval()(images))
    back = torch.load(gemel.export(run, "official", tmp_path / "back.pth"), weights_only=False)
    assert same(back["model"], models[0])
    assert same(back["teacher"], models[1])
    assert same(back["teacher_backbone"], dict(teacher.state_dict()))


def test_a_bare_backbone(tmp_path: Path) -> None:
    backbone = network()
    torch.save(backbone.state_dict(), tmp_path / "resnet.pth")
    run = gemel.import_official(tmp_path / "resnet.pth", tmp_path / "run", method="barlow_twins")
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(gemel.backbone(run)(images), backbone(images))
    write_photos(tmp_path / "photos", 8)
    assert gemel.embed(run, tmp_path / "photos").num_rows == 8
    assert run.settings["classes"] is None
    with pytest.raises(UserError, match="no checkpoint, and so no classes"):
        gemel.classify(run, tmp_path / "photos")
    with pytest.raises(UserError, match="no checkpoint, and so no heads; gemel export"):
        gemel.export(run, "official")
    with pytest.raises(UserError, match=r"imported from resnet\.pth"):
        gemel.resume(run)
    with pytest.raises(UserError, match="holds a run already"):
        gemel.import_official(tmp_path / "resnet.pth", tmp_path / "run")
    result = gemel.evaluate(run, "label-free", tmp_path / "photos", sample=8, objects=4, view_count=2)
    assert result.settings["images"] == 8


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


LISTED = ("twist_resnet50", "twist_resnet50w2", "twist_vit_s")


@pytest.mark.parametrize("older", [False, True], ids=["new", "older"])
@pytest.mark.parametrize("name", LISTED)
def test_the_released_networks_layouts(name: str, older: bool, official_layouts: Layouts) -> None:
    """Names and shapes of the real networks, without their numbers: they fit the method, and come back."""
    listed = {tensor: torch.empty(shape, device="meta") for tensor, shape in official_layouts[name].items()}
    model = dict(listed)
    if older:
        parts = (("last_linear", "cls_heads.0.0"), ("norm", "cls_heads.0.1"))
        for part, was in parts:
            model = {one.replace(f"projection_heads.{part}", f"projection_heads.{was}"): model[one] for one in model}
    assert twist.fits(model)
    found = twist.read({"epoch": 4}, model, Path("a.pth"))
    network = layout.network_of(found.backbone, Path("a.pth"))
    wanted = {"twist_resnet50": "resnet50", "twist_resnet50w2": "resnet50w2", "twist_vit_s": "deit_small_patch16_224"}
    assert network["name"] == wanted[name]
    assert found.recipe == {"twist_vit_s": "deit-small"}.get(name, network["name"])
    assert (found.options["hidden"], found.options["classes"], found.epochs) == (96, 48, 5)
    with torch.device("meta"):
        method = Twist(backbones.find(network["name"])(), **found.options)
    assert differences(method, found.tensors) == []
    back = twist.model_of(found.tensors, "backbone.network.", "heads.0.")
    assert {one: tuple(value.shape) for one, value in back.items()} == {
        one: tuple(shape) for one, shape in official_layouts[name].items()
    }


def test_networks_that_the_official_code_lacks(digits_run: gemel.Run) -> None:
    with pytest.raises(UserError, match="has ResNets and vision transformers, not convnet"):
        gemel.export(digits_run, "official")
    small = {"name": "resnet18", "options": {"stem": "small"}}
    with pytest.raises(UserError, match="not resnet18 with a small stem"):
        layout.check_network(small)
