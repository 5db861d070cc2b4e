"""Noise as Targets: a batch's assignment and its loss, and points that are computed, not kept."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close
from toy import PRECISIONS, Given, Golden, given, near

from gemel.backbones.convnet import convnet
from gemel.backbones.parts.sobel import sobel
from gemel.data.plan import Batch
from gemel.methods.noise_as_targets import NoiseAsTargets, best_assignment, noise_as_targets_loss, unit_rows
from gemel.methods.parts.fixed_codes import fixed_codes
from hooks import batch_of, begun


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_batch(relatives_b: Golden, dtype: torch.dtype, tolerance: float) -> None:
    [features] = given(relatives_b, "nat", "features", dtype)
    codes, label, index = (relatives_b[f"nat.{name}"] for name in ("codes", "label", "index"))
    targets = codes[label[index]].to(dtype)
    z = unit_rows(features)
    near(z, relatives_b["nat.z"], tolerance)
    near(z @ targets.T, relatives_b["nat.scores"], tolerance)
    near(24 * noise_as_targets_loss(features, targets)["loss"], relatives_b["nat.loss_before"], tolerance)
    found = best_assignment(z, targets)
    assert torch.equal(found, relatives_b["nat.assignment"])
    loss = noise_as_targets_loss(features, targets[found])["loss"]
    loss.backward()
    near(loss, relatives_b["nat.logged"], tolerance)
    near(24 * loss, relatives_b["nat.loss"], tolerance)
    near(24 * features.grad, relatives_b["nat.grad_features"], 10 * tolerance)


def test_gradient_by_the_embeddings(relatives_b: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    z = relatives_b["nat.z"].clone().requires_grad_()
    monkeypatch.setattr("gemel.methods.noise_as_targets.unit_rows", lambda rows: rows)
    targets = relatives_b["nat.codes"][relatives_b["nat.label"][relatives_b["nat.index"]]]
    (24 * noise_as_targets_loss(z, targets[relatives_b["nat.assignment"]])["loss"]).backward()
    near(z.grad, relatives_b["nat.grad_z"], 1e-9)


def test_the_table_of_points(relatives_b: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method itself, on features as images, with the codes given."""
    made = NoiseAsTargets(Given(16), dimensions=16, hidden=()).double()
    made.head = torch.nn.Identity()
    made.attach(40)
    made.epochs.value = 1
    made.point.copy_(relatives_b["nat.label"])
    monkeypatch.setattr(made, "targets", lambda points: relatives_b["nat.codes"][points])
    index = relatives_b["nat.index"]
    loss = made(Batch([relatives_b["nat.features"]], index, torch.full((24,), -1)), 0.0)["loss"]
    made.after_step(0.0)
    near(loss, relatives_b["nat.logged"], 1e-9)
    assert torch.equal(made.point, relatives_b["nat.label_after"])


def test_sobel(relatives_b: Golden) -> None:
    """The opposite signs; a first layer's weights can undo them."""
    near(-sobel(relatives_b["nat.sobel.images"]), relatives_b["nat.sobel.out"], 1e-9)


def test_codes_are_uniform_on_the_sphere() -> None:
    seed = torch.tensor(2**61 + 7)
    codes = fixed_codes(seed, torch.arange(4000), 33).double()
    assert_close(codes.norm(dim=1), torch.ones(4000, dtype=torch.float64), rtol=1e-6, atol=0)
    assert float(codes.mean(0).abs().max()) < 5 / (4000 * 33) ** 0.5
    assert_close(codes.T @ codes / 4000, torch.eye(33).double() / 33, rtol=0, atol=5 / 33 / 4000**0.5)
    kurtosis = (codes.square().square().mean() * 33 * 35 / 3).item()  # of a coordinate, 3 / (D (D + 2))
    assert kurtosis == pytest.approx(1.0, abs=0.02)


def test_codes_depend_on_seed_and_row_alone() -> None:
    seed, rows = torch.tensor(5), torch.tensor([7, 1_280_000, 3])
    found = fixed_codes(seed, rows, 64)
    assert torch.equal(found[1:2], fixed_codes(seed, rows[1:2], 64))
    others = fixed_codes(torch.tensor(6), rows, 64)
    assert float((found @ others.T).abs().max()) < 0.6
    assert float((found @ found.T - torch.eye(3)).abs().max()) < 0.6


def method(**options: Any) -> NoiseAsTargets:
    torch.manual_seed(0)
    backbone = convnet(widths=(8, 8), strides=(2, 2))
    return NoiseAsTargets(backbone, **{"dimensions": 8, "hidden": (16,), "dropout": 0.0, **options})


def test_points_are_exchanged_in_every_third_epoch() -> None:
    made = begun(method(), 12)
    data, moved = batch_of(made), list[bool]()
    for _ in range(4):
        before = made.point.clone()
        made(data, 0.0)
        made.after_step(0.0)
        moved.append(not torch.equal(made.point, before))
        assert torch.equal(made.point.sort().values, torch.arange(12)), "a permutation"
        made.before_epoch(None, 0.0)  # type: ignore[arg-type]  # asks for nothing
        torch.nn.init.normal_(made.head[-1].weight)
    assert moved == [True, False, False, True]


def test_an_exchange_never_raises_the_loss() -> None:
    z, targets = torch.randn(30, 8), torch.nn.functional.normalize(torch.randn(30, 8))
    order = torch.randperm(30)
    before = noise_as_targets_loss(z, targets)["loss"]
    assert float(noise_as_targets_loss(z, targets[best_assignment(unit_rows(z), targets)])["loss"]) <= float(before)
    assert torch.equal(best_assignment(targets[order], targets), order)
    assert float(noise_as_targets_loss(targets, targets)["loss"]) == pytest.approx(0.0, abs=1e-6)
    terms = noise_as_targets_loss(z, targets)
    assert float(terms["loss"]) == pytest.approx(2 - 2 * float(terms["cosine"]), abs=1e-5)
