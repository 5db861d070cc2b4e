"""Barlow Twins' official files, made of torchvision's network as the released code makes them, to runs and back."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import gemel
from conftest import TINY, write_photos
from gemel import backbones
from gemel.engine import checkpoints
from gemel.engine.checkpoints import differences, load_backbone
from gemel.engine.pretrained_weights import start_from
from gemel.errors import UserError
from gemel.exchange.official import barlow_twins, layout
from gemel.methods.barlow_twins import BarlowTwins
from gemel.runs.run import Run
from gemel.training.build import load_method

SIZES = (512, 24, 16)
State = dict[str, Any]


def exclude_bias_and_norm(parameter: nn.Parameter) -> bool:
    return parameter.ndim == 1


class Model(nn.Module):
    """The released model, on ResNet-18."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = torchvision.models.resnet18(zero_init_residual=True)
        self.backbone.fc = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        first = [nn.Linear(SIZES[0], SIZES[1], bias=False), nn.BatchNorm1d(SIZES[1]), nn.ReLU(inplace=True)]
        self.projector = nn.Sequential(*first, nn.Linear(SIZES[1], SIZES[2], bias=False))
        self.bn = nn.BatchNorm1d(SIZES[2], affine=False)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    made = Model()
    with torch.no_grad():  # statistics that tell one from another
        for name, tensor in made.named_buffers():
            if name.endswith("running_mean"):
                tensor.normal_()
    return made.eval()


@pytest.fixture(scope="module")
def state(model: Model) -> State:
    """Group by group: matrices and kernels, then what has one dimension."""
    ordered = sorted(model.parameters(), key=lambda one: one.ndim == 1)
    count = sum(one.ndim != 1 for one in ordered)
    places = list(range(len(ordered)))
    settings = {"lr": 0.1, "weight_decay": 1e-6, "momentum": 0.9, "eta": 0.001}
    filters = {"weight_decay_filter": True, "lars_adaptation_filter": True}
    return {
        "epoch": 3,
        "model": {f"module.{name}": tensor.clone() for name, tensor in model.state_dict().items()},
        "optimizer": {
            "state": {place: {"mu": torch.full_like(one, place)} for place, one in enumerate(ordered)},
            "param_groups": [
                settings | filters | {"params": places[:count]},
                settings | filters | {"params": places[count:]},
            ],
        },
    }


def write(path: Path, content: State) -> Path:
    torch.save(content, path)
    return path


def read(path: Path) -> State:
    return torch.load(path, weights_only=True)


@torch.no_grad()
def test_there_and_back(model: Model, state: State, tmp_path: Path) -> None:
    run = gemel.import_official(write(tmp_path / "checkpoint.pth", state), tmp_path / "run")
    images = torch.randn(2, 3, 64, 64)
    features = model.backbone(images)
    torch.testing.assert_close(load_backbone(run)(images), features)
    method = load_method(run)
    torch.testing.assert_close(method.embed(method.backbone(images)), model.projector(features))
    assert run.settings["method"]["projector"] == [24, 16]
    assert run.settings["method"]["recipe"] == "resnet50"
    assert run.settings["method"]["loss_scale"] == 1.0

    checkpoint = gemel.export(run, "official")
    assert checkpoint == run.path / "official.pth"
    bare = read(run.path / "resnet18.pth")
    model.backbone.load_state_dict(bare)  # strictly
    back = read(checkpoint)
    assert back["epoch"] == 3
    assert list(back["model"]) == list(state["model"])
    for name, tensor in state["model"].items():
        if "module.bn." not in name:
            assert torch.equal(back["model"][name], tensor), name
    assert back["optimizer"]["state"].keys() == state["optimizer"]["state"].keys()
    for place, one in state["optimizer"]["state"].items():
        assert torch.equal(back["optimizer"]["state"][place]["mu"], one["mu"])
    groups = zip(back["optimizer"]["param_groups"], state["optimizer"]["param_groups"], strict=True)
    assert all(ours["params"] == theirs["params"] and ours.keys() == theirs.keys() for ours, theirs in groups)
    fresh = Model()
    fresh.load_state_dict({name.removeprefix("module."): one for name, one in back["model"].items()})


def test_the_run_is_taken_by_the_commands(state: State, tmp_path: Path) -> None:
    run = gemel.import_official(write(tmp_path / "checkpoint.pth", state), tmp_path / "run")
    write_photos(tmp_path / "photos", 8)
    assert gemel.embed(run, tmp_path / "photos").num_rows == 8
    assert gemel.evaluate(run, "knn", tmp_path / "photos", labels="folders", k=3).metrics["top1"] >= 0
    assert gemel.report([run]).is_file()
    with pytest.raises(UserError, match="discovers no classes"):
        gemel.classify(run, tmp_path / "photos")
    with pytest.raises(UserError, match=r"imported from checkpoint\.pth"):
        gemel.resume(run)


def test_an_early_checkpoint_names_a_function(
    model: Model, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the first releases did: by a script's function, one group, momenta in the model's order; nothing is run."""
    monkeypatch.setattr(exclude_bias_and_norm, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "exclude_bias_and_norm", exclude_bias_and_norm, raising=False)
    momenta: list[Tensor] = [torch.full_like(one, place) for place, one in enumerate(model.parameters())]
    group = state["optimizer"]["param_groups"][0] | {"params": list(range(len(momenta)))}
    group |= {"weight_decay_filter": exclude_bias_and_norm}
    optimizer = {"state": {place: {"mu": one} for place, one in enumerate(momenta)}, "param_groups": [group]}
    file = write(tmp_path / "checkpoint.pth", state | {"optimizer": optimizer})
    run = gemel.import_official(file, tmp_path / "run")
    back = read(gemel.export(run, "official"))["optimizer"]
    ordered = sorted(momenta, key=lambda one: one.ndim == 1)
    assert all(torch.equal(back["state"][place]["mu"], one) for place, one in enumerate(ordered))
    backbone = backbones.find("resnet18")()
    start_from(backbone, file)
    assert torch.equal(backbone.network.conv1.weight, model.backbone.conv1.weight)


def test_runs_of_gemel(state: State, tmp_path: Path) -> None:
    """LARS goes along, another optimiser does not; the backbone lies beside the file."""
    write_photos(tmp_path / "photos", 8)
    options: State = dict(TINY, backbone="resnet18", image_size=32, batch_size=4, epochs=2)
    options |= {"method": {"name": "barlow_twins", "projector": [16, 8]}, "backbone.stem": "standard"}
    for optimizer in ("lars", "adamw"):
        run = gemel.pretrain(tmp_path / "photos", out=tmp_path / optimizer, optimizer=optimizer, **options)
        file = gemel.export(run, "official", tmp_path / f"{optimizer}.pth")
        found = read(file)
        assert found["epoch"] == 2
        assert ("optimizer" in found) == (optimizer == "lars")
        if optimizer == "lars":
            assert len(found["optimizer"]["state"]) == len(list(load_method(run).parameters()))
        again = gemel.import_official(file, tmp_path / f"{optimizer}-again")
        ours, theirs = (checkpoints.load(one) for one in (run, again))
        assert ours is not None and theirs is not None
        assert all(torch.equal(ours["method"][name], one) for name, one in theirs["method"].items())
    assert (tmp_path / "resnet18.pth").is_file()
    assert (tmp_path / "adamw-resnet18.pth").is_file(), "what stands is not written over"
    with pytest.raises(UserError, match="is the name of the backbone's file"):
        gemel.export(tmp_path / "lars", "official", tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match=r"must end in \.pth or \.pt"):
        gemel.export(tmp_path / "lars", "official", tmp_path / "a.safetensors")


def test_the_released_networks_layout(official_layouts: dict[str, dict[str, list[int]]]) -> None:
    """Names and shapes of the real network, without its numbers: they fit the method, and come back."""
    listed = official_layouts["barlow_resnet50"]
    model = {name.removeprefix("module."): torch.empty(shape, device="meta") for name, shape in listed.items()}
    assert barlow_twins.fits(model)
    found = barlow_twins.read({}, model, Path("a.pth"))
    assert layout.network_of(found.backbone, Path("a.pth")) == {"name": "resnet50"}
    assert found.options == {"projector": [96, 96, 96]}
    with torch.device("meta"):
        method = BarlowTwins(backbones.find("resnet50")(), projector=(96, 96, 96))
    assert differences(method, found.tensors) == []
    back = barlow_twins.model_of(found.tensors)
    assert [(f"module.{name}", list(one.shape)) for name, one in back.items()] == list(listed.items())


def without(state: State, part: str) -> State:
    return state | {"model": {name: one for name, one in state["model"].items() if part not in name}}


def test_files_that_are_refused(state: State, tmp_path: Path) -> None:
    def told(content: State, match: str) -> None:
        file = write(tmp_path / "a.pth", content)
        with pytest.raises(UserError, match=match):
            gemel.import_official(file, tmp_path / "run")
        assert not (tmp_path / "run").exists()

    told(without(state, "module.bn."), "of no layout that is known here .*: it holds backbone, projector")
    told({"weights": state["model"], "epoch": 1}, "is no official checkpoint")
    told(without(state, "projector.0.weight"), "does not fit the network")
    more = {"module.predictor.weight": torch.zeros(1)}
    told(state | {"model": state["model"] | more}, r"predictor\.weight, which is no part of Barlow Twins' model")
    wrong = {"optimizer": state["optimizer"] | {"state": {0: {"mu": torch.zeros(3)}}}}
    told(state | wrong, r"momentum of backbone\.network\.conv1\.weight is \(3,\), not \(64, 3, 7, 7\)")
    told(torchvision.models.resnet18().state_dict(), r"fc\.weight is unknown")


def test_runs_that_are_refused(photos_run: Run, digits_run: Run) -> None:
    with pytest.raises(UserError, match="not convnet"):
        gemel.export(photos_run, "official")
    with pytest.raises(UserError, match=r"predictor\.weight has no counterpart"):
        barlow_twins.model_of({"predictor.weight": torch.zeros(1)})
