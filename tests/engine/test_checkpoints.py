"""Checkpoints: the last good one is found, whatever happened to the last; a run's backbone is made as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gemel import backbones
from gemel.engine import checkpoints
from gemel.errors import UserError
from gemel.runs.folder import Claim, create
from gemel.runs.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create(Claim(tmp_path / "run"), "method: {name: twist}\n")


def state(step: int, value: float = 0.0) -> dict[str, Any]:
    tensors = {"backbone.weight": torch.full((3, 2), 1.0), "heads.bias": torch.tensor([0.0, value])}
    facts = {"name": "twist", "stage": 0, "settings": "", "images": 8, "identity": "", "processes": 1}
    return {**facts, "step": step, "method": tensors, "optimizer": {}, "precision": {}}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_that_is_not_finite_is_passed_over(value: float, run: Run) -> None:
    checkpoints.save(run, state(1))
    checkpoints.save(run, state(2, value))
    with pytest.raises(UserError, match=r"holds NaN or infinite values \(heads\.bias\); gemel resume .* goes on from"):
        checkpoints.load(run)
    said = list[str]()
    found = checkpoints.load(run, said.append)
    assert found is not None and found["step"] == 1
    assert len(said) == 1 and said[0].endswith("going on from previous.ckpt, step 1")
    checkpoints.save(run, state(2))
    assert checkpoints.load(run) is not None
    assert run.previous_path.is_file(), "the good one was not replaced by the other"


def test_no_good_checkpoint(run: Run) -> None:
    assert checkpoints.load(run) is None
    checkpoints.save(run, state(1, float("nan")))
    checkpoints.save(run, state(2, float("nan")))
    with pytest.raises(
        UserError, match=r"holds NaN .*, and none before it is whole and finite; gemel pretrain --overw"
    ):
        checkpoints.load(run, print)


@pytest.mark.parametrize(
    ("name", "options"),
    [("vit_tiny_patch16_224", {}), ("vit_tiny_patch16_224", {"image_size": 64}), ("ghostnet_050", {})],
)
def test_a_backbone_is_loaded_as_it_was(name: str, options: dict[str, Any], run: Run) -> None:
    """Its position embeddings and its width follow from what backbone.json tells."""
    backbone = backbones.find(name, 32)(**options).eval()
    facts = {"name": name, "options": options | {"pretrained": True}, "width": backbone.width, "size": 32}
    checkpoints.save_backbone(run, backbone, facts | {"mean": [0.5] * 3, "std": [0.5] * 3, "views": "photo"})
    loaded = checkpoints.load_backbone(run)
    images = torch.randn(2, 3, 32, 32)
    assert loaded.width == backbone.width and torch.equal(loaded(images), backbone(images))


@pytest.mark.parametrize(
    "facts",
    [
        '{"name": "resnet18"}',
        "[1]",
        '{"name": 3, "options": {}, "width": 1, "size": 32, "mean": [0], "std": [1], "views": "photo"}',
        '{"name": "convnet", "options": {"depth": 9}, "width": 1, "size": 32, "mean": [], "std": [], "views": "glyph"}',
        '{"name": "no_net", "options": {}, "width": 512, "size": 32, "mean": [0], "std": [1], "views": "photo"}',
    ],
)
def test_damaged_facts_are_told(facts: str, run: Run) -> None:
    (run.path / "backbone.json").write_text(facts)
    run.backbone_path.write_bytes(b"")
    with pytest.raises(UserError):
        checkpoints.load_backbone(run)
