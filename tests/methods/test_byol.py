"""BYOL against the authors' code: loss, and whole steps."""

from typing import cast

import pytest
import torch
from torch import nn
from toy import OWN, PRECISIONS, Golden, backbone, batches, check, check_directions, load, near, train

from gemel.methods.byol import Byol, byol_loss
from gemel.methods.parts.teacher import Teacher
from gemel.schedules import cosine
from gemel.settings.recipes import LarsOptimizer


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_loss(relatives: Golden, dtype: torch.dtype, tolerance: float) -> None:
    terms = {"first": "loss1", "second": "loss2", "loss": "loss"}
    check_directions(byol_loss, relatives, "byol", "p1 p2 t1 t2", terms, dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_whole_steps(relatives: Golden, dtype: torch.dtype, tolerance: float) -> None:
    """The average follows after each step; the released code also averages a predictor, which it never uses."""
    numbers = {key: relatives[f"byol.net.{key}"] for key in ("x", "lr", "decay", "eta", "tau", "tau0")}
    start = float(numbers["tau0"])
    method = Byol(backbone(), projector=(32, 16), predictor=(32,), momentum=start).to(dtype)
    load(method, relatives, "byol.net.init", OWN)
    unused = Teacher(method.predictor)
    own = {"networks.0.network.": "", "networks.1.": "projector."}
    target = {key: value for key, value in relatives.items() if not key.startswith("byol.net.target.predictor.")}
    load(method.teacher, target, "byol.net.target", own)
    load(unused.networks[0], relatives, "byol.net.target.predictor", {"": ""})
    description = LarsOptimizer(weight_decay=float(numbers["decay"]), trust=float(numbers["eta"]))
    follow = method.after_step

    def both(progress: float) -> None:
        follow(progress)
        unused.follow(method.predictor, momentum=cosine(progress, start, 1.0))

    method.after_step = both
    losses = train(method, description, list(batches(numbers["x"].to(dtype))), numbers["lr"].tolist())
    near(torch.stack(losses), relatives["byol.net.loss"], tolerance)
    assert numbers["tau"].tolist() == pytest.approx([cosine(step / 4, start, 1.0) for step in range(4)], rel=1e-12)
    check(method, relatives, "byol.net.student", OWN, tolerance)
    seen = {key: value for key, value in relatives.items() if not key.startswith("byol.net.teacher.predictor.")}
    check(method.teacher, seen, "byol.net.teacher", own, tolerance)
    check(unused.networks[0], relatives, "byol.net.teacher.predictor", {"": ""}, tolerance)


def test_momentum(relatives: Golden) -> None:
    start, steps = relatives["schedule.byol_tau.hp"].tolist()
    for step, momentum in relatives["schedule.byol_tau"].tolist():
        assert cosine(step / steps, start, 1.0) == pytest.approx(momentum, rel=1e-12)


def test_values() -> None:
    one, across = torch.eye(4, dtype=torch.float64), torch.eye(4, dtype=torch.float64).roll(1, 1)
    for target, value in ((one, 0.0), (across, 4.0), (-one, 8.0)):
        assert float(byol_loss(one, one, target, target)["loss"]) == pytest.approx(value)


@pytest.mark.parametrize(("momentum", "moved"), [(1.0, 0.0), (0.0, 1.0)])
def test_average_at_its_ends(momentum: float, moved: float) -> None:
    method = Byol(backbone(), projector=(16, 8), predictor=(16,), momentum=momentum)
    before = [one.clone() for one in method.teacher.parameters()]
    with torch.no_grad():
        for one in (*method.backbone.parameters(), *method.projector.parameters()):
            one += 1.0
    method.after_step(0.0)
    for old, new in zip(before, method.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + moved)


def test_average_begins_as_the_network() -> None:
    """Weights that the backbone was given after it was made reach it, too."""
    method = Byol(backbone(), projector=(16, 8), predictor=(16,))
    with torch.no_grad():
        cast(nn.Linear, method.backbone.network.lin).weight.fill_(0.5)
    method.before_stage("pretrain", None)
    assert bool((method.teacher.networks[0].network.lin.weight == 0.5).all())
