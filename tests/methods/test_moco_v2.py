"""MoCo v2 against the authors' code: loss, queue, whole steps; and the values that the equation implies."""

from math import exp, log

import pytest
import torch
from torch import nn
from toy import OWN, PRECISIONS, Golden, backbone, batches, check, given, load, near, train

from gemel.distributed import world_size
from gemel.errors import UserError
from gemel.methods.moco_v2 import MocoV2, moco_v2_loss
from gemel.methods.parts.contrast import unit
from gemel.methods.parts.norm_groups import in_groups
from gemel.methods.parts.queue import Queue
from gemel.settings.recipes import SgdOptimizer

NAMES = OWN | {"projector.": "fc."}
TEACHER = {"networks.0.network.": "", "networks.1.": "fc."}


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_loss_and_queue(relatives: Golden, dtype: torch.dtype, tolerance: float) -> None:
    """Four steps; the fourth after the pointer came round."""
    queries, keys = given(relatives, "moco_v2", "q k", dtype)
    queue = Queue(16, 72).to(dtype)
    queue.rows.copy_(relatives["moco_v2.queue0"])
    temperature = float(relatives["moco_v2.temperature"])
    for step in range(4):
        terms = moco_v2_loss(queries[step], keys[step], queue.rows, temperature=temperature)
        near(terms["loss"], relatives["moco_v2.loss"][step], tolerance)
        (gradient,) = torch.autograd.grad(terms["loss"], queries)
        near(gradient[step], relatives["moco_v2.grad_q"][step], tolerance)
        queue.push(unit(keys[step]))
        near(queue.rows, relatives["moco_v2.queue"][step], tolerance)
        assert int(queue.pointer) == int(relatives["moco_v2.ptr"][step])
    assert terms["loss"].requires_grad
    assert torch.autograd.grad(terms["loss"], keys, allow_unused=True) == (None,)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_whole_steps(relatives: Golden, dtype: torch.dtype, tolerance: float) -> None:
    """Everything decays; the average is taken before the keys, so that the saved one has not seen the last step."""
    numbers = {
        key: relatives[f"moco_v2.net.{key}"] for key in ("x", "lr", "decay", "momentum", "temperature", "queue0")
    }
    momentum = float(numbers["momentum"])
    method = MocoV2(
        backbone(), projector=(20, 16), queue=72, momentum=(momentum, momentum),
        temperature=float(numbers["temperature"]),
    ).to(dtype)  # fmt: skip
    load(method, relatives, "moco_v2.net.init", NAMES)
    method.before_stage("pretrain", None)
    method.queues[0].rows.copy_(numbers["queue0"])
    description = SgdOptimizer(weight_decay=float(numbers["decay"]))
    losses = train(method, description, list(batches(numbers["x"].to(dtype))), [float(numbers["lr"])] * 4)
    near(torch.stack(losses), relatives["moco_v2.net.loss"], tolerance)
    check(method, relatives, "moco_v2.net.student", NAMES, tolerance)
    check(method.teacher, relatives, "moco_v2.net.teacher", TEACHER, tolerance)
    near(method.queues[0].rows, relatives["moco_v2.net.queue"], tolerance)


def test_values() -> None:
    rows = torch.zeros(3, 4, dtype=torch.float64)
    rows[:, 0] = 1.0
    queue = rows[:1].T.expand(-1, 65536)
    assert float(moco_v2_loss(rows, rows, queue)["loss"]) == pytest.approx(11.090370, abs=1e-6)
    across = torch.zeros(4, 65536, dtype=torch.float64)
    across[1] = 1.0
    loss = float(moco_v2_loss(rows, rows, across)["loss"])
    assert loss == pytest.approx(6.092617, abs=1e-6)
    assert loss == pytest.approx(log(1 + 65536 * exp(-5)))


@pytest.mark.parametrize(("pushed", "kept"), [([3, 3], [2, 3, 4, 5]), ([1, 9], [6, 7, 8, 9]), ([4], [0, 1, 2, 3])])
def test_queue_of_any_size(pushed: list[int], kept: list[int]) -> None:
    queue, start = Queue(2, 4), 0
    for count in pushed:
        queue.push(torch.arange(start, start + count).float()[:, None].expand(-1, 2))
        start += count
    assert sorted(queue.rows[0].tolist()) == kept


def test_symmetric_form_is_the_mean_of_both_directions() -> None:
    """Each view's keys in a queue of their own, as in solo-learn's MoCo v2+."""
    torch.manual_seed(0)
    method = MocoV2(backbone(), projector=(16, 8), queue=24, symmetric=True).double()
    (batch,) = batches(torch.randn(1, 2, 12, 3, 2, 2, dtype=torch.float64))
    before = [queue.rows.clone() for queue in method.queues]
    terms = method(batch, 0.0)
    queries = [method.projector(method.backbone(view)) for view in batch.views]
    keys = [method.teacher.networks[1](method.teacher.networks[0](view)) for view in batch.views]
    pairs = zip(queries, keys[::-1], before, strict=True)
    expected = torch.stack([moco_v2_loss(*one)["loss"] for one in pairs]).mean()
    torch.testing.assert_close(terms["loss"], expected)
    method.after_step(0.0)
    for queue, key in zip(method.queues, keys[::-1], strict=True):
        torch.testing.assert_close(queue.rows[:, :12], unit(key).T)


def test_momentum_follows_its_schedule() -> None:
    method = MocoV2(backbone(), projector=(16, 8), queue=24, momentum=(0.5, 1.0))
    (batch,) = batches(torch.randn(1, 2, 12, 3, 2, 2))
    with torch.no_grad():
        method.backbone.network.lin.weight.add_(1.0)
    before = method.teacher.networks[0].network.lin.weight.clone()
    method(batch, 0.5)
    torch.testing.assert_close(method.teacher.networks[0].network.lin.weight, before + 0.25)
    method.eval()
    method(batch, 0.5)
    torch.testing.assert_close(method.teacher.networks[0].network.lin.weight, before + 0.25)


def test_norms_see_groups_and_keys_are_shuffled() -> None:
    """Each group has statistics of its own; a shuffle sends one of each G consecutive images to every group."""
    norm = nn.BatchNorm1d(1, affine=False)
    rows = torch.arange(12.0)[:, None]
    assert world_size() == 1
    (found,) = in_groups(lambda part: (norm(part),), rows, 3)
    for group in range(3):
        torch.testing.assert_close(found[group::3], nn.BatchNorm1d(1, affine=False)(rows[group::3]))
    seen: list[list[int]] = []
    torch.manual_seed(0)

    def look(part: torch.Tensor) -> tuple[torch.Tensor]:
        seen.append(part[:, 0].int().tolist())
        return (part,)

    (back,) = in_groups(look, rows, 3, shuffled=True)
    assert torch.equal(back, rows)
    assert all([row // 3 for row in members] == [0, 1, 2, 3] for members in seen)
    assert sorted(row for members in seen for row in members) == list(range(12))
    assert seen != [list(range(group, 12, 3)) for group in range(3)]
    with pytest.raises(UserError, match=r"--method\.groups 5 with 12 images"):
        in_groups(look, rows, 5)
