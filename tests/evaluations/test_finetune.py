"""Fine-tuning of a trained network, and supervised training of a fresh one."""

import pytest
import torch

import gemel
from gemel.errors import UserError
from gemel.evaluations.networks import open_subject
from gemel.evaluations.protocols.finetune import RECIPES


def test_fine_tuning_leaves_the_run_as_it_was(digits_run: gemel.Run) -> None:
    before = gemel.backbone(digits_run).state_dict()
    subject = open_subject(digits_run)
    result = gemel.evaluate(digits_run, "finetune", epochs=4, batch_size=64, backbone_lr=0.05)
    assert result.metrics["top1"] > 0.5  # chance: 0.1
    assert result.settings["recipe"] == "twist"
    assert (result.settings["rates"], result.settings["backbone_rate"]) == ([0.2], 0.05)
    assert result.settings["network"] == subject.name
    assert all(torch.equal(value, before[name]) for name, value in gemel.backbone(digits_run).state_dict().items())


def test_supervised_from_scratch_is_fine_tuning_of_fresh_weights(digits_run: gemel.Run) -> None:
    result = gemel.evaluate(digits_run, "finetune", network="random", epochs=4, batch_size=64, lr=0.4, backbone_lr=0.4)
    assert result.settings["recipe"] == "scratch"
    assert result.settings["rates"] == [0.1]
    assert result.settings["backbone_rate"] == 0.1
    assert result.settings["network"].startswith("random ")
    assert result.metrics["top1"] > 0.5


def test_the_scratch_recipe_falls_twice_by_ten() -> None:
    row = RECIPES["scratch"]
    assert [row.rate_factor(epoch, 0, 1) for epoch in (29, 30, 59, 60)] == pytest.approx([1, 0.1, 0.1, 0.01])


def test_pixels_have_nothing_to_fit(digits_run: gemel.Run) -> None:
    with pytest.raises(UserError, match="no weights"):
        gemel.evaluate(digits_run, "finetune", network="pixels")
    linear = gemel.evaluate(digits_run, "linear", network="pixels", epochs=3, batch_size=64, lr=0.1)
    assert linear.metrics["top1"] > 0.5


def test_photos(photos_run: gemel.Run) -> None:
    images = photos_run.settings["images"]
    result = gemel.evaluate(photos_run, "finetune", images, labels="folders", epochs=2, batch_size=8)
    assert result.settings["classes"] == 2
    assert result.settings["views"]["scale"] == [0.08, 1.0]
    assert "top5" not in result.metrics
    assert result.settings["recipe"] == "twist"
    with pytest.raises(UserError, match="has no labels"):
        gemel.evaluate(photos_run, "finetune", images, epochs=1)
