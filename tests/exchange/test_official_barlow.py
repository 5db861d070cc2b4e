"""Files of the official layout, made of torchvision's network as the released code makes them, to runs and back."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import gemel
from gemel.errors import UserError
from gemel.exchange import official_barlow as official
from gemel.train.checkpoints import load_backbone, load_method

SIZES = (512, 24, 16)


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
def state(model: Model) -> dict[str, Any]:
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


@torch.no_grad()
def test_there_and_back(model: Model, state: dict[str, Any], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "checkpoint.pth")
    read = official.read(tmp_path / "checkpoint.pth")
    assert official.reads(read)
    run = official.to_run(read, tmp_path / "run", backbone="resnet18")
    images = torch.randn(2, 3, 64, 64)
    features = model.backbone(images)
    torch.testing.assert_close(load_backbone(run)(images), features)
    method = load_method(run)
    torch.testing.assert_close(method.embed(method.backbone(images)), model.projector(features))
    assert run.settings["method"]["projector"] == [24, 16]

    checkpoint, backbone = official.write(run, tmp_path / "out")
    assert backbone.name == "resnet18.pth"
    back = official.read(checkpoint)
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
    assert all(key in back["model"] for key in ("module.bn.running_mean", "module.bn.num_batches_tracked"))
    fresh = Model()
    fresh.load_state_dict({name.removeprefix("module."): one for name, one in back["model"].items()})


@torch.no_grad()
def test_a_bare_backbone(model: Model, tmp_path: Path) -> None:
    torch.save(model.backbone.state_dict(), tmp_path / "resnet50.pth")
    read = official.read(tmp_path / "resnet50.pth")
    assert official.reads_backbone(read) and not official.reads(read)
    run = official.to_run(read, tmp_path / "run", backbone="resnet18")
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(load_backbone(run)(images), model.backbone(images))
    with pytest.raises(UserError, match="has no checkpoint"):
        official.to_official(run)
    with pytest.raises(UserError, match="holds a run already"):
        official.to_run(read, tmp_path / "run", backbone="resnet18")
    result = gemel.evaluate(run, "label-free", "digits", quiet=True, sample=8, objects=4, views=2)
    assert result.settings["images"] == 8


def test_an_early_checkpoint_names_a_function(
    state: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pickled as the first releases did, by a script of that name; nothing of it is run."""
    import sys

    monkeypatch.setattr(exclude_bias_and_norm, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "exclude_bias_and_norm", exclude_bias_and_norm, raising=False)
    groups = [group | {"weight_decay_filter": exclude_bias_and_norm} for group in state["optimizer"]["param_groups"]]
    path = tmp_path / "checkpoint.pth"
    torch.save(state | {"optimizer": state["optimizer"] | {"param_groups": groups}}, path)
    assert official.reads(official.read(path))


def test_what_is_refused(state: dict[str, Any], digits_run: gemel.Run, tmp_path: Path) -> None:
    assert not official.reads({"model": {"module.backbone.conv1.weight": 0, "module.projector.0.weight": 0}})  # VICReg
    assert not official.reads({"state_dict": {}})
    with pytest.raises(UserError, match=r"neither checkpoint\.pth nor"):
        official.to_run({"a": torch.zeros(1)}, tmp_path / "run")
    with pytest.raises(UserError, match=r"module\.predictor\.weight is no part"):
        official.tensors_of({"module.predictor.weight": torch.zeros(1)})
    with pytest.raises(UserError, match=r"predictor\.weight has no place"):
        official.model_of({"predictor.weight": torch.zeros(1)})
    with pytest.raises(UserError, match="is a run of twist"):
        official.to_official(digits_run)
    missing = {name: one for name, one in state["model"].items() if name != "module.projector.0.weight"}
    with pytest.raises(UserError, match="does not fit the network"):
        official.to_run(state | {"model": missing}, tmp_path / "run", backbone="resnet18")
    assert not (tmp_path / "run").exists()
