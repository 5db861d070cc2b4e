"""The last stage of a frozen network learns too: from the heads on, on maps of crops, and only while that helps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gemel
from conftest import write_photos
from gemel import backbones
from gemel.backbones.parts.last_stage import halves
from gemel.data.sources import open_source
from gemel.data.sources.maps import MapSource
from gemel.errors import UserError
from gemel.evaluations.networks import open_subject
from gemel.runs.run import Run
from gemel.training import last_stage

SHORT: dict[str, Any] = {"train": "last", "classes": 2, "threads": 1, "workers": 0, "batch_size": 16, "epochs": 10}
THEN = {"then": {"epochs": 2}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_photos(folder, 48)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(last_stage, "EVERY", 2)
        return gemel.pretrain(
            folder, out=tmp_path_factory.mktemp("last") / "run", labels="folders", quiet=True, **SHORT, **THEN
        )


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "convnext_atto", "mobilenetv3_small_050"])
def test_halves_are_the_network(name: str) -> None:
    torch.manual_seed(0)
    network = backbones.find(name, 64)().eval()
    trunk, tail = halves(network, name, 64)
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(tail(trunk(images)), network(images), rtol=1e-5, atol=1e-6)
    own = sum(one.numel() for one in tail.parameters())
    assert 0.2 < own / sum(one.numel() for one in network.parameters()) < 0.95, "a stage, not a layer"


def test_a_network_without_stages() -> None:
    network = backbones.find("vit_tiny_patch16_224", 224)().eval()
    with pytest.raises(UserError, match=r"vit_tiny_patch16_224 is no sequence of stages"):
        halves(network, "vit_tiny_patch16_224", 224)


def test_maps_of_neighbours_and_crops() -> None:
    """Of four images two were seen, with three maps each; a map's number tells the image and the crop."""
    maps = np.array([[0, 1, 2], [10, 11, 12]], np.float16).reshape(2, 3, 1, 1, 1)
    source = MapSource(
        open_source(np.zeros((4, 8, 8), np.uint8)), maps, np.array([0, 0, 1, 1]), np.array([[2], [3], [0], [1]])
    )
    assert source.take(np.arange(4)).reshape(-1).tolist() == [0, 0, 10, 10]
    drawn = source.take(source.neighbours[0]).reshape(-1)
    assert drawn.tolist() == [0, 1, 2, 10, 11, 12]
    drawn = source.take(source.neighbours[3]).reshape(-1)
    assert drawn.tolist() == [10, 11, 12, 0, 1, 2]


def test_the_last_stage_learns_alone(run: Run, folder: Path, tmp_path: Path) -> None:
    fresh = gemel.pretrain(folder, out=tmp_path / "heads", quiet=True, **{**SHORT, "train": "heads", "epochs": 1})
    before, after = (gemel.backbone(one).state_dict() for one in (fresh, run))
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed, "it learned"
    assert all(name.startswith(("network.blocks.6.", "network.conv_head", "network.bn2")) for name in changed)
    assert not any("running" in name for name in changed), "norms keep their statistics"


def test_the_run_is_like_any_other(run: Run, folder: Path) -> None:
    assert run.settings["train"] == "last"
    assert run.settings["then"]["views"]["kinds"] == ["whole", "random"]
    scores = {result["protocol"]: result["metrics"] for result in run.evaluations()}
    assert scores["cluster"]["acc"] > 0.9
    assert set(gemel.classify(run, folder)["class"].to_pylist()) == {0, 1}
    assert np.stack(gemel.embed(run, folder)["vector"].to_pylist()).shape == (48, 1280)
    assert open_subject(run).has_own_input
    steps = run.metrics()["step"].to_pylist()
    assert max(steps) > 30, "beyond the heads' steps"


def test_what_does_not_help_is_taken_back(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([0.5, 0.6, 0.4])
    monkeypatch.setattr(last_stage, "EVERY", 1)
    monkeypatch.setattr(last_stage, "modularity", lambda classes, near: next(values))
    kept: list[dict[str, Tensor]] = []
    judge = last_stage.Adapting._judge

    def noted(self: Any) -> bool:
        is_better = judge(self)
        kept.append({name: value.clone() for name, value in self.method.state_dict().items() if "tail" in name})
        return is_better

    monkeypatch.setattr(last_stage.Adapting, "_judge", noted)
    run = gemel.pretrain(folder, out=tmp_path / "run", quiet=True, **SHORT, **THEN)
    assert max(run.metrics()["step"].to_pylist()) == 32, "two steps after the heads' thirty"
    state = torch.load(run.checkpoint_path, weights_only=True)["method"]
    assert all(torch.equal(state[name], value) for name, value in kept[1].items())
    assert any(not torch.equal(state[name], value) for name, value in kept[2].items())
    weights = gemel.backbone(run).state_dict()
    name = "network.conv_head.weight"
    assert torch.equal(weights[name], kept[1]["backbone.network.tail.1.weight"])


def test_resumed_bit_for_bit(run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gemel.engine.loop import Loop
    from gemel.errors import Interrupted

    monkeypatch.setattr(last_stage, "EVERY", 2)
    step = Loop.step

    def stopping(self: Any, batches: Any) -> Any:
        if self.task.step == 33:
            self._signals.received = 15
        return step(self, batches)

    with monkeypatch.context() as patched:
        patched.setattr(Loop, "step", stopping)
        with pytest.raises(Interrupted):
            gemel.pretrain(folder, out=tmp_path / "run", labels="folders", quiet=True, **SHORT, **THEN)
    again = gemel.resume(tmp_path / "run", quiet=True)
    one, two = (torch.load(each.checkpoint_path, weights_only=True)["method"] for each in (run, again))
    assert one.keys() == two.keys()
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert json.loads((again.path / "evaluations" / "gallery.json").read_text())


def test_vectors_have_no_last_stage(tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32))
    with pytest.raises(UserError, match="vectors have no network of theirs"):
        gemel.pretrain(str(tmp_path / "vectors.npy"), train="last", out=tmp_path / "run")
