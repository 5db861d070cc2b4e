"""A second stage: its settings, its rows, and broken off in either stage it comes to the same end."""

import os
import re
import signal
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gemel
from conftest import TINY, freeze
from gemel.api.pretrain import ready
from gemel.data.plan import Batch
from gemel.engine import checkpoints
from gemel.errors import Interrupted, UserError
from gemel.methods import find_recipe
from gemel.methods.twist import Twist
from gemel.request.resolve import prepare
from gemel.request.validate import asked_for
from gemel.runs.run import Run
from gemel.schedules import cosine, warmup_cosine
from gemel.settings.tree import layer_of_call
from gemel.training.task import Pretraining

OPTIONS: dict[str, Any] = {
    "method": {"name": "twist", "hidden": 16, "classes": 5},
    "epochs": 2,
    "image_size": 16,
    "batch_size": 8,
    "views": {"name": "photo", "local_count": 2, "local_size": 8},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "then": {"epochs": 2, "views": {"scale": [0.05, 0.3]}, "optimizer": {"lr": 0.01, "warmup_epochs": 1}},
    **TINY,
}


def facts(run: Run) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    state = checkpoints.load(run)
    assert state is not None
    assert state["stage"] == 1
    return state["method"], run.metrics().drop_columns(["images_per_second", "data_wait"]).to_pylist()


AGREED: dict[str, Any] = {
    **OPTIONS,
    "method": {"name": "twist", "hidden": 8, "classes": 4, "layers": 1, "heads": 2, "labels": "agreed", "networks": 2},
    "backbone": {"name": "convnet", "widths": [8, 8], "strides": [2, 2], "pool": 2},
    "views": {"name": "photo"},
    "optimizer": {"name": "adamw", "lr": 0.01},
    "then": {"epochs": 2},
}


def interrupting(after: int, number: int) -> Any:
    """What follows a step, and sends this process a signal after so many steps."""
    steps, follow = count(1), Pretraining.after_step

    def interrupted(self: Pretraining, progress: float) -> None:
        follow(self, progress)
        if type(self) is Pretraining and next(steps) == after:  # the estimate steps on a task of its own kind
            os.kill(os.getpid(), number)

    return interrupted


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Run:
    return gemel.pretrain(photos, out=tmp_path_factory.mktemp("stages") / "whole", **OPTIONS)


def test_settings_hold_both_stages(whole: Run) -> None:
    then, first = whole.settings["then"], whole.settings
    assert then["epochs"] == 2
    assert then["views"] == {**first["views"], "scale": [0.05, 0.3]}
    assert then["optimizer"] == {**first["optimizer"], "lr": 0.01, "warmup_epochs": 1.0}


def test_rows_of_both_stages(whole: Run) -> None:
    rows = whole.metrics().to_pylist()
    assert [row["step"] for row in rows] == list(range(1, 21)), "steps of both stages are counted together"
    first, second = rows[:10], rows[10:]
    assert {row["stage"] for row in first} == {"pretrain"}
    assert {row["stage"] for row in second} == {"self_labeling"}
    assert [row["progress"] for row in second] == pytest.approx([step / 10 for step in range(1, 11)])
    rates = [0.01 * 8 / 256 * warmup_cosine(step / 10, warmup=0.1, final=1e-3) for step in range(10)]
    assert [row["lr"] for row in second] == pytest.approx(rates)
    assert all(row["kept"] is None for row in first)
    assert all(0 <= row["kept"] <= 0.6 for row in second)
    assert all(row["gradient_before"] > 0 for row in first)


def test_scan_in_one_command(whole: Run, photos: Path, tmp_path: Path) -> None:
    """Neighbours by another run's features, clusters from them, then labels from the certain images."""
    method = {"name": "scan", "neighbours": 5, "classes": 4}
    options = {**OPTIONS, "method": method, "views": "photo", "epochs": 1, "then": {"epochs": 1}}
    run = gemel.pretrain(photos, weights=str(whole.path), out=tmp_path / "scan", **options)
    rows = run.metrics().to_pylist()
    assert [row["stage"] for row in rows] == ["clustering"] * 5 + ["self_labeling"] * 5
    assert all(row["entropy"] > 0 for row in rows[:5])
    assert all(0 <= row["kept"] <= 1 for row in rows[5:])
    table = run.classes()
    assert table is not None
    assert len(table) == 40


@pytest.mark.parametrize(
    ("after", "number", "told"),
    [
        (3, signal.SIGTERM, "after step 3 of 10;"),
        (10, signal.SIGINT, "after step 10 of 10;"),
        (13, signal.SIGINT, "after step 3 of 10 of self_labeling;"),
    ],
    ids=["first", "between", "second"],
)
def test_broken_off_and_resumed(
    after: int, number: int, told: str, whole: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes within a step, whose work is kept; `between` is after the first stage's last step."""
    out = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "after_step", interrupting(after, number))
        with pytest.raises(Interrupted, match=f"{told} gemel resume"):
            gemel.pretrain(photos, out=out, **OPTIONS)
    assert gemel.load(out).metrics().column("step").to_pylist() == list(range(1, after + 1))
    resumed = gemel.resume(out, quiet=True)
    (first, rows), (second, again) = facts(whole), facts(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert rows == again


@pytest.fixture(scope="module")
def agreed(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Run:
    return gemel.pretrain(photos, out=tmp_path_factory.mktemp("agreed") / "whole", **AGREED)


def test_networks_that_agree(agreed: Run) -> None:
    """Terms of both stages are logged, and one network is kept."""
    rows = agreed.metrics().to_pylist()
    assert [row["stage"] for row in rows] == ["pretrain"] * 10 + ["self_labeling"] * 10
    assert all(0 < row["loss"] < 2 for row in rows[10:]), "the cross-entropy to labels of four classes"
    assert all(row["diversity"] > 0 for row in rows)
    assert gemel.backbone(agreed).width == 32
    assert agreed.is_finished


@pytest.mark.parametrize("after", [10, 13, 15], ids=["between", "second", "border"])
def test_labels_agreed_upon_outlive_a_break(
    after: int, agreed: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The votes, the labels and the networks that rest are those of the unbroken run; `border` is between epochs."""
    out = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "after_step", interrupting(after, signal.SIGTERM))
        with pytest.raises(Interrupted):
            gemel.pretrain(photos, out=out, **AGREED)
    resumed = gemel.resume(out, quiet=True)
    (first, rows), (second, again) = facts(agreed), facts(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert rows == again


def test_the_estimate_measures_both_stages(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the views and the loss of each."""
    seen, forward, lines = set[tuple[bool, int]](), Twist.forward, list[str]()

    def watched(self: Twist, batch: Batch, progress: float) -> dict[str, Tensor]:
        seen.add((self.stage == "self_labeling", len(batch.views)))
        return forward(self, batch, progress)

    monkeypatch.setattr(Twist, "forward", watched)
    options = {**OPTIONS, "then": {"epochs": 3, "views": {"local_count": 6}}, "out": str(tmp_path / "a")}
    del options["quiet"]
    prepared = ready(layer_of_call({"images": photos, **options}), say=lines.append)
    assert seen == {(False, 4), (True, 8)}
    assert prepared.method.stage == "pretrain", "a copy was measured"
    assert re.search(r"^estimate: .* for 2 \+ 3 epochs of 5 steps at \d+ and \d+ ms$", lines[-1]), lines[-1]


def test_too_few_minutes_for_the_second_stage(photos: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    options = {**OPTIONS, "epochs": None, "minutes": 0.001, "out": str(tmp_path / "a")}
    del options["quiet"]
    assert ready(layer_of_call({"images": photos, **options}), say=lines.append).settings.epochs == 1
    assert "more than 0.001 minutes: an epoch and the second stage take 0:0" in "".join(lines)
    ready(layer_of_call({"images": photos, **options, "then": None}), say=lines.append)
    assert "more than 0.001 minutes: an epoch takes 0:0" in "".join(lines)


def test_a_teacher_refuses_the_second_stage_before_the_first(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="self-labeling has no teacher"):
        gemel.pretrain(photos, out=tmp_path / "a", **{**OPTIONS, "method": {**OPTIONS["method"], "teacher": True}})
    assert not (tmp_path / "a").exists()


def test_a_method_without_a_second_stage(tmp_path: Path, photos: Path) -> None:
    options = {**OPTIONS, "method": {"name": "barlow_twins", "projector": [8, 8]}}
    with pytest.raises(UserError, match=r"--then\.epochs 2: barlow_twins has no second stage"):
        gemel.pretrain(photos, out=tmp_path / "a", **options)
    with pytest.raises(UserError, match=r"--views\.local_count 0"):
        gemel.pretrain(photos, out=tmp_path / "a", **{**options, "then": {"epochs": 0}})
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("then", "told"),
    [
        ({"epoch": 3}, r"then\.epoch is not an option of a second stage; did you mean then\.epochs"),
        ({"epochs": -1}, r"then\.epochs must be greater than or equal to 0"),
        ({"views": {"scales": 3}}, r"then\.views\.scales is not an option of any views"),
        ({"views": {"name": "phot"}}, r"then\.views 'phot' is unknown"),
        ({"optimizer": {"lr": "fast"}}, r"then\.optimizer\.lr must be a valid number"),
        (5, r"then is 5; give then\.epochs"),
    ],
)
def test_mistakes(then: Any, told: str, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        gemel.pretrain(photos, out=tmp_path / "a", then=then, quiet=True)


def test_decay_and_clipping(tmp_path: Path, photos: Path) -> None:
    """The decay follows half a cosine; a gradient longer than `clip` is scaled down to it."""
    optimizer = {"name": "sgd", "lr": 32.0, "momentum": 0, "weight_decay": 0, "clip": 1e-3, "warmup_epochs": 0}
    options = {**OPTIONS, "then": None, "epochs": 1, "optimizer": {**optimizer, "final": 1.0}}
    one = gemel.pretrain(photos, out=tmp_path / "a", **options)
    two = gemel.pretrain(photos, out=tmp_path / "b", **{**options, "seed": 0, "optimizer": {**optimizer, "lr": 1e-9}})
    first, last = (checkpoints.load(run) for run in (two, one))
    assert first is not None
    assert last is not None
    moved = sum(
        float((last["method"][name] - value).square().sum())
        for name, value in first["method"].items()
        if name.endswith(("weight", "bias"))
    )
    assert 0 < moved**0.5 <= 5 * 1e-3 * 1.001, "five steps of rate 1"
    options["optimizer"] = {"name": "adamw", "weight_decay": 0.1, "final_decay": 0.3}
    run = gemel.pretrain(photos, out=tmp_path / "c", **options)
    state = checkpoints.load(run)
    assert state is not None
    decays = [group["weight_decay"] for group in state["optimizer"]["param_groups"]]
    assert decays == pytest.approx([cosine(0.8, 0.1, 0.3), 0.0])


METHOD = '''
"""Counts its epochs."""
import torch
from gemel.methods.twist import RECIPES, Twist as _Twist

class Counting(_Twist):
    """TWIST that looks at all images before each epoch.

    Args:
        classes: to discover
    """
    recipes = {"mine": RECIPES["small"].model_copy(update={"method": {}})}

    def __init__(self, backbone, *, classes: int = 5) -> None:
        super().__init__(backbone, classes=classes, hidden=8)
        self.register_buffer("seen", torch.zeros(3, 2))

    def before_epoch(self, embed, progress):
        features, readable = embed()
        self.seen[int(progress * 3 + 0.5)] = torch.tensor([len(features), progress])
        assert self.training and bool(readable.all()) and bool((features.abs().sum(1) > 0).all())
'''


def test_before_each_epoch(tmp_path: Path, photos: Path) -> None:
    file = tmp_path / "counting.py"
    file.write_text(METHOD)
    options = {**OPTIONS, "then": None, "epochs": 3, "method": {"name": str(file)}}
    run = gemel.pretrain(photos, out=tmp_path / "a", **options)
    state = checkpoints.load(run)
    assert state is not None
    assert state["method"]["seen"].tolist() == [[40, 0], [40, pytest.approx(1 / 3)], [40, pytest.approx(2 / 3)]]


@pytest.mark.parametrize("name", ["resnet50-multicrop", "resnet50w2"])
def test_recipes_of_two_stages(name: str) -> None:
    _, recipe = find_recipe(f"twist/{name}")
    assert recipe.then.epochs == 50
    assert recipe.then.views["local_scale"] == (0.05, 0.14)


@pytest.mark.parametrize(("first", "second"), [(None, 2e-4), (1e-4, 1e-5), (0.003, 3e-4)])
@pytest.mark.parametrize("named", [{}, {"then.optimizer": "adamw"}], ids=["", "named"])
def test_the_second_rate_is_a_tenth(first: float | None, second: float, named: dict[str, str], tmp_path: Path) -> None:
    """In the recipe for small images, unless it is said; whatever the first rate is."""
    options: dict[str, Any] = {"epochs": 1, "then.epochs": 1, "out": str(tmp_path / "a"), "threads": 1, **named}
    given = layer_of_call({"images": "digits", **options, **({"optimizer.lr": first} if first else {})})
    then = prepare(asked_for([given]), lambda _: None, freeze).settings.then
    assert then.optimizer["lr"] == second
    given = layer_of_call({"images": "digits", **options, "then.optimizer.lr": 3e-4})
    assert prepare(asked_for([given]), lambda _: None, freeze).settings.then.optimizer["lr"] == 3e-4
