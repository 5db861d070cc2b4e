"""Linear classification: recipes, rates side by side, features of vision transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

import gemel
from gemel import evaluations
from gemel.backbones.convnet import convnet
from gemel.backbones.timm import LastBlocks
from gemel.data.sources import Source, open_source
from gemel.data.sources.parts import Subset
from gemel.errors import UserError
from gemel.evaluations.base import Subject
from gemel.evaluations.protocols.linear import RECIPES, SWEEP, Linear, _recipe_of
from gemel.methods.dino import Dino
from gemel.methods.moco_v2 import MocoV2
from gemel.methods.w_mse import WMse

OWN = [(MocoV2, "resnet50", "moco"), (Dino, "vit_small_patch16_224", "dino-vit"), (WMse, "resnet50", "sweep")]
"""methods, networks, and the recipes that are theirs where none is named"""

PUBLISHED = {  # protocols 2.1: rate at the recipe's batch, decay, epochs
    "twist": ((0.2,), 0.0, 100),
    "barlow_twins": ((0.3,), 1e-6, 100),
    "twist-vit": ((0.08,), 0.0, 100),
    "twist-vit-b": ((0.006,), 0.0, 100),
    "dino": ((0.004,), 0.0, 100),
    "swav": ((0.3,), 1e-6, 100),
    "moco": ((30.0,), 0.0, 100),
    "moco-v3": ((0.4,), 0.0, 90),
    "moco-v3-vit": ((12.0,), 0.0, 90),
    "simsiam": ((1.6,), 0.0, 90),
    "vicreg": ((0.02,), 1e-6, 100),
    "simclr": ((1.6,), 0.0, 90),
    "byol": ((1.6, 1.2, 0.8, 0.4, 0.2), 0.0, 80),
    "self-classifier": ((0.8,), 0.0, 100),
    "lightly": ((0.1,), 0.0, 90),
    "vissl": ((0.3,), 1e-6, 100),
    "sweep": (SWEEP, 0.0, 100),
}


@pytest.mark.parametrize(("method", "network", "expected"), OWN)
def test_a_method_s_own_recipe(method: Any, network: str, expected: str, tmp_path: Path) -> None:
    made = method(convnet(widths=(4, 4), strides=(2, 2)), **method.small)
    assert _recipe_of(Subject(made.encoder(), {"name": network}, "", tmp_path, made)) == expected


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_are_the_published_ones(name: str) -> None:
    row = RECIPES[name]
    rates = tuple(rate * row.scale for rate in row.lr)
    assert (pytest.approx(rates), row.weight_decay, row.epochs) == PUBLISHED[name]


def test_a_runs_method_names_the_recipe(digits_run: gemel.Run) -> None:
    result = gemel.evaluate(digits_run, "linear", epochs=6, batch_size=64, lr=1.0)
    assert result.settings["recipe"] == "twist"
    assert result.settings["rates"] == [1.0]
    assert result.settings["momentum"] == 0.9
    assert result.settings["test_images"] == 359
    assert result.settings["images"] == 1438
    assert "SHA-256" in result.settings["split"]
    assert 0.5 < result.metrics["top1"] <= result.metrics["best_top1"] <= result.metrics["top5"]
    assert 1 <= result.settings["best_epoch"] <= 6
    assert (digits_run.path / "evaluations" / f"{result.file_name}.json").is_file()


def test_several_rates_are_chosen_among_by_held_out_training_images(digits_run: gemel.Run) -> None:
    result = gemel.evaluate(digits_run, "linear", network="random", epochs=2, batch_size=64)
    assert result.settings["recipe"] == "sweep"
    assert result.settings["validation_images"] == 143
    assert result.settings["images"] == 1295
    assert result.metrics["top1"] == result.settings["top1_of_lr"][f"{result.settings['chosen_lr']:g}"]
    assert len(result.settings["top1_of_lr"]) == 9
    assert set(result.metrics) == {"top1", "top5", "mean_per_class", "best_top1", "best_top5"}
    optimistic = gemel.evaluate(digits_run, "linear", epochs=1, batch_size=64, lr="0.1,1,10", choose="test")
    assert optimistic.metrics["top1"] == max(optimistic.settings["top1_of_lr"].values())
    assert "validation_images" not in optimistic.settings


def test_wrong_words(digits_run: gemel.Run) -> None:
    with pytest.raises(UserError, match=r"--recipe 'twits' is unknown to linear; there are twist.*did you mean twist"):
        evaluations.make("linear", {"recipe": "twits"})
    with pytest.raises(UserError, match="--lr"):
        evaluations.make("linear", {"lr": "-1"})
    with pytest.raises(UserError, match="1295 labelled images of digits cannot fill a batch of 4096"):
        gemel.evaluate(digits_run, "linear", recipe="byol", batch_size=4096)
    with pytest.raises(UserError, match="need a vision transformer"):
        gemel.evaluate(digits_run, "linear", blocks=4)


@pytest.fixture(scope="module")
def transformer() -> nn.Module:
    torch.manual_seed(0)
    options: dict[str, Any] = {"embed_dim": 24, "depth": 5, "num_heads": 2, "img_size": 32, "num_classes": 0}
    return timm.create_model("vit_tiny_patch16_224", **options).eval()


def test_the_last_blocks_class_tokens_each_through_the_final_norm(transformer: Any) -> None:
    images = torch.randn(3, 3, 32, 32)
    outputs: list[torch.Tensor] = []
    hooks = [block.register_forward_hook(lambda *given: outputs.append(given[2])) for block in transformer.blocks]
    with torch.no_grad():
        class_token = transformer(images)
        for hook in hooks:
            hook.remove()
        normed = [transformer.norm(one) for one in outputs]
        torch.testing.assert_close(
            LastBlocks(transformer, blocks=4)(images), torch.cat([one[:, 0] for one in normed[1:]], 1)
        )
        torch.testing.assert_close(LastBlocks(transformer, blocks=1)(images), class_token)
        torch.testing.assert_close(
            LastBlocks(transformer, blocks=1, patches=True)(images),
            torch.cat([normed[-1][:, 0], normed[-1][:, 1:].mean(1)], 1),
        )
    with pytest.raises(UserError, match="--blocks 6 of a network with 5"):
        LastBlocks(transformer, blocks=6)


def small_digits() -> Source:
    return Subset(open_source("digits"), np.arange(200))


def test_linear_on_the_last_blocks_of_a_transformer(transformer: nn.Module, tmp_path: Path) -> None:
    facts = {"name": "vit", "width": 24, "size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "views": "glyph"}
    subject = Subject(transformer, facts, "a transformer", tmp_path)
    _, settings = Linear(recipe="twist_vit", epochs=1, batch_size=32).run(subject, small_digits(), None, tell=None)
    assert settings["blocks"] == 4
    assert settings["rates"] == [0.02 * 32 / 256]
    assert settings["head_width"] == 4 * 24
