"""SwAV against the authors' code: Sinkhorn, and their training loop on raw projections with a queue."""

from collections.abc import Sequence
from math import log

import pytest
import torch
from torch import Tensor, nn
from toy import PRECISIONS, Given, Golden, near

from gemel.data.plan import Batch
from gemel.engine import optimizers
from gemel.methods.parts.recent import Recent
from gemel.methods.parts.sinkhorn import Assignment, sinkhorn
from gemel.methods.swav import Swav, swav_loss
from gemel.settings.recipes import LarsOptimizer


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(("key", "iterations"), [("codes", 3), ("codes_1", 1), ("codes_200", 200)])
def test_sinkhorn(relatives: Golden, key: str, iterations: int, dtype: torch.dtype, tolerance: float) -> None:
    assert int(relatives["swav.iterations"]) == 3
    epsilon = float(relatives["swav.epsilon"])
    codes = sinkhorn(relatives["swav.sinkhorn.scores"].to(dtype), epsilon=epsilon, iterations=iterations)
    near(codes, relatives[f"swav.sinkhorn.{key}"], tolerance)


def test_what_sinkhorn_balances() -> None:
    scores = 0.1 * torch.randn(40, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    codes, even = sinkhorn(scores), sinkhorn(scores, iterations=200)
    torch.testing.assert_close(codes.sum(1), torch.ones(40, dtype=torch.float64), rtol=1e-12, atol=0)
    torch.testing.assert_close(even.sum(0), torch.full((8,), 5.0, dtype=torch.float64), rtol=1e-6, atol=0)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(sinkhorn(scores[:, order]), codes[:, order])
    torch.testing.assert_close(sinkhorn(scores + 1000), codes)
    far = torch.tensor([[9.0, -9.0, 0.0], [9.0, -9.0, 1.0], [9.0, -9.0, 2.0]])
    assert torch.isfinite(sinkhorn(far, iterations=50)).all(), "exp(-18 / 0.05) is 0 in any precision"
    for wrong in ({"epsilon": 0.0}, {"iterations": 0}):
        with pytest.raises(ValueError, match="epsilon above 0 and at least 1 iteration"):
            sinkhorn(scores, **wrong)


def method(golden: Golden, dtype: torch.dtype, queue: int) -> Swav:
    """On raw projections, with the authors' numbers."""
    made = Swav(
        Given(16), projector=(16,), prototypes=20, temperature=float(golden["swav.temperature"]),
        epsilon=float(golden["swav.epsilon"]), queue=queue, freeze=int(golden["swav.frozen_steps"]) / 6,
    )  # fmt: skip
    made.projector = nn.Sequential()
    made.prototypes.weight.data.copy_(golden["swav.prototypes0"])
    return made.to(dtype)


def views_of(rows: Tensor, count: int, dtype: torch.dtype) -> tuple[list[Tensor], Batch]:
    views = [view.to(dtype, copy=True).requires_grad_() for view in rows[:count]]
    return views, Batch(views, torch.arange(24), torch.full((24,), -1))


def gradients(views: Sequence[Tensor]) -> Tensor:
    return torch.stack([view.grad for view in views if view.grad is not None])


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_whole_steps(relatives: Golden, dtype: torch.dtype, tolerance: float) -> None:
    """Prototypes of length 1 before each step, frozen in two; a queue that joins once it is full; LARC on all."""
    swav = method(relatives, dtype, int(relatives["swav.queue_length"]))
    description = LarsOptimizer(weight_decay=float(relatives["swav.decay"]), flavour="L4")
    optimizer, found = optimizers.build(description, swav.parameter_groups()), list[Assignment]()
    assign = swav._assign
    swav._assign = lambda view, scores: found.append(assign(view, scores)) or found[-1]
    for step, rate in enumerate(relatives["swav.lr"].tolist()):
        views, batch = views_of(relatives["swav.z"][step], 4, dtype)
        found.clear()
        loss = swav(batch, step / 6)["loss"]
        optimizer.zero_grad()
        loss.backward()
        near(swav.prototypes.weight, relatives["swav.prototypes_normed"][step], tolerance)
        near(torch.stack([one.codes for one in found]), relatives["swav.codes"][step], tolerance)
        near(loss, relatives["swav.loss"][step], tolerance)
        near(gradients(views), relatives["swav.grad_z"][step], tolerance)
        near(swav.prototypes.weight.grad, relatives["swav.grad_prototypes"][step], tolerance)
        optimizers.drop_gradients_before_start(optimizer, step / 6)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        swav.after_step(step / 6)
        near(swav.prototypes.weight, relatives["swav.prototypes"][step], tolerance)
    assert swav.queue is not None
    near(swav.queue.rows, relatives["swav.queue"], tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize(("case", "count"), [("no_queue", 4), ("two_views", 2)])
def test_without_a_queue(relatives: Golden, case: str, count: int, dtype: torch.dtype, tolerance: float) -> None:
    views, batch = views_of(relatives["swav.z"][0], count, dtype)
    loss = method(relatives, dtype, 0)(batch, 0.0)["loss"]
    loss.backward()
    near(loss, relatives[f"swav.{case}.loss"], tolerance)
    near(gradients(views), relatives[f"swav.{case}.grad_z"], tolerance)


def test_constant_scores() -> None:
    scores = torch.zeros(4, 6, 5, dtype=torch.float64)
    codes = [sinkhorn(view) for view in scores[:2]]
    torch.testing.assert_close(codes[0], torch.full((6, 5), 0.2, dtype=torch.float64))
    terms = swav_loss(scores, codes)
    assert float(terms["loss"]) == pytest.approx(log(5))
    assert float(terms["entropy"]) == pytest.approx(log(5))
    with pytest.raises(ValueError, match="two targets"):
        swav_loss(scores, codes[:1])


def test_queue_begins_late_and_knows_when_it_is_full() -> None:
    swav = Swav(Given(4), projector=(4,), prototypes=3, queue=10, queue_starts=0.5)
    assert swav.queue is not None
    for progress, count in ((0.4, 0), (0.5, 6), (0.6, 10)):
        swav(Batch(list(torch.randn(2, 6, 4)), torch.arange(6), torch.full((6,), -1)), progress)
        swav.after_step(progress)
        assert swav.queue.pushed.value == count
    again = Recent(2, 10, 4)
    assert swav.queue.is_full and not again.is_full
    again.load_state_dict(swav.queue.state_dict())
    assert again.is_full


def test_what_decays() -> None:
    """As released everything, prototypes, biases and norms too; or matrices alone."""
    for decay, expected in (("all", {True}), ("matrices", {True, False})):
        swav = Swav(Given(4), projector=(8, 4), prototypes=3, decay=decay, freeze=0.1)
        groups = swav.parameter_groups()
        assert {group.decay for group in groups} == expected
        assert [group.starts for group in groups if group.parameters[0] is swav.prototypes.weight] == [0.1]
