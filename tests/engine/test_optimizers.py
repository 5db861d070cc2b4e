"""Optimisers against numbers of released code, and what a step does around them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from gemel.engine import optimizers
from gemel.engine.optimizers import Flavour, Lars
from gemel.methods.base import Group
from gemel.methods.parts.teacher import Teacher
from gemel.settings.recipes import OPTIMIZERS, AdamOptimizer, LarsOptimizer, Optimizer, SgdOptimizer

FLAVOURS: tuple[Flavour, ...] = ("L1", "L2", "L3", "L4", "L5")
Golden = Mapping[str, Tensor]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_lars_is_that_of_the_released_codes(relatives: Golden, flavour: Flavour) -> None:
    """A matrix, a vector, and both of zeros in seven steps; the first at rate 0, the fourth without gradient."""
    start, decay = {name: nn.Parameter(relatives[f"lars.{name}0"].clone()) for name in "wbzc"}, relatives["lars.decay"]
    plain = {} if flavour == "L4" else {"adapt": False, "weight_decay": 0.0}
    groups = [{"params": [start["w"], start["z"]]}, {"params": [start["b"], start["c"]], **plain}]
    momentum, trust = float(relatives["lars.momentum"]), float(relatives["lars.eta"])
    lars = Lars(groups, 0.0, momentum=momentum, weight_decay=float(decay), trust=trust, flavour=flavour)
    for step, rate in enumerate(relatives["lars.lr"].tolist()):
        for group in lars.param_groups:
            group["lr"] = rate
        for name, parameter in start.items():
            parameter.grad = relatives[f"lars.g{name}"][step].clone()
        lars.step()
        for name, parameter in start.items():
            expected = relatives[f"lars.{flavour.lower()}.{name}"][step]
            assert_close(parameter.detach(), expected, rtol=1e-12, atol=1e-13, msg=f"{name} after step {step}")


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_lars_cut_into_parts(flavour: Flavour, decay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of one tensor, of some, and a tensor larger than a part: the same bits, and gradients as they were."""
    ends: list[list[Tensor]] = []
    for size in (2**25, 40, 1):
        monkeypatch.setattr(optimizers, "AT_A_TIME", size)
        torch.manual_seed(0)
        network = nn.Sequential(*(nn.Linear(5, 5) for _ in range(4)))
        optimizer = Lars(network.parameters(), 0.5, weight_decay=decay, flavour=flavour)
        for _ in range(3):
            optimizer.zero_grad()
            network(torch.randn(6, 5)).square().sum().backward()
            before = [one.grad.clone() for one in network.parameters() if one.grad is not None]
            optimizer.step()
            after = [one.grad for one in network.parameters() if one.grad is not None]
            assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
        ends.append([one.detach() for one in network.parameters()])
    assert all(torch.equal(*pair) for end in ends[1:] for pair in zip(ends[0], end, strict=True))


class Case(NamedTuple):
    """A released schedule as a description, and how it is run."""

    description: Optimizer
    batch: float
    steps: float
    epochs: float
    warmup: float


def steps_of(case: str, hp: list[float]) -> Case:
    """The description of `schedule.X_lr` by its numbers `schedule.X_lr.hp`."""
    match case, hp:
        case "simclr", [lr, batch, images, epochs, warm]:
            steps = images * epochs // batch + 1
            return Case(SgdOptimizer(lr=lr, final=0.0), batch, steps, epochs, round(warm * images // batch) / steps)
        case "byol", [lr, batch, warm, steps]:
            return Case(LarsOptimizer(lr=lr, final=0.0), batch, steps, 8, warm / steps)
        case "moco_v2", [lr, epochs]:
            return Case(SgdOptimizer(lr=lr, final=0.0, rate_by="epoch"), 256, 7 * epochs, epochs, 0.0)
        case "simsiam", [lr, batch, epochs]:
            return Case(SgdOptimizer(lr=lr, final=0.0, rate_by="epoch"), batch, 7 * epochs, epochs, 0.0)
        case "moco_v3", [lr, batch, epochs, warm, each]:
            return Case(LarsOptimizer(lr=lr, final=0.0), batch, epochs * each, epochs, warm / epochs)
        case "vicreg", [lr, batch, epochs, each]:
            return Case(LarsOptimizer(lr=lr), batch, epochs * each, epochs, 10 / epochs)
        case "dino", [lr, batch, least, epochs, each, warm]:
            found = LarsOptimizer(lr=lr, warmup_inclusive=True, final=least / (lr * batch / 256))
            return Case(found, batch, epochs * each, epochs, warm / epochs)
        case "swav", [lr, final, start, epochs, each, warm]:
            found = LarsOptimizer(lr=lr, warmup_start=start / lr, warmup_inclusive=True, final=final / lr)
            return Case(found, 256, epochs * each, epochs, warm / epochs)
        case "w_mse", [lr, each, epochs, factor, *drops]:
            shares = tuple((epochs - drop) / epochs for drop in drops)
            found = AdamOptimizer(lr=lr, warmup_start=1 / 500, warmup_inclusive=True, milestones=shares, factor=factor)
            return Case(found, 256, epochs * each, epochs, 500 / (epochs * each))
        case _:
            lr, factor, epochs = hp
            shares = tuple(epoch / epochs for epoch in (120, 160, 200))
            return Case(SgdOptimizer(lr=lr, milestones=shares, factor=factor), 256, 7 * epochs, epochs, 0.0)


@pytest.mark.parametrize(
    "name",
    ["simclr", "byol", "moco_v2", "simsiam", "moco_v3", "vicreg", "dino", "swav", "w_mse", "cmc"],
)
def test_rates_are_those_of_the_released_codes(relatives: Golden, name: str) -> None:
    case = steps_of(name, relatives[f"schedule.{name}_lr.hp"].tolist())
    groups = [
        Group([nn.Parameter(torch.ones(2, 2))], True),
        Group([nn.Parameter(torch.ones(2))], True, 1.0, "constant"),
    ]
    optimizer = optimizers.build(case.description, groups)
    by_epoch = name in ("moco_v2", "simsiam", "cmc")
    for number, *rates in relatives[f"schedule.{name}_lr"].tolist():
        epoch = number - (name == "cmc")
        for step in range(int(7 * epoch), int(7 * epoch) + 7) if by_epoch else [number]:
            optimizers.set_rates(
                optimizer,
                case.description,
                step / case.steps,
                batch_size=int(case.batch),
                steps=int(case.steps),
                epochs=int(case.epochs),
                warmup=case.warmup,
            )
            for group, rate in zip(optimizer.param_groups, rates, strict=False):
                assert group["lr"] == pytest.approx(rate, rel=1e-12, abs=1e-15), f"{number}: {group['schedule']}"


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_warm_up_takes_no_more_than_its_share(share: float) -> None:
    """40 of 80 epochs, or a tenth of them."""
    description = SgdOptimizer(lr=1.0, warmup_epochs=40, warmup_share=share, final=0.0)
    optimizer = optimizers.build(description, [Group([nn.Parameter(torch.ones(2, 2))], True)])
    rates: list[float] = []
    for progress in (share / 2, share, 1.0):
        optimizers.set_rates(optimizer, description, progress, batch_size=256, steps=800, epochs=80)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 1.0, 0.0])


def test_decay_moves_along_a_cosine_where_parameters_decay(relatives: Golden) -> None:
    start, end, epochs, each = relatives["schedule.dino_wd.hp"].tolist()
    description = AdamOptimizer(weight_decay=start, final_decay=end)
    groups = [Group([nn.Parameter(torch.ones(2, 2))], True), Group([nn.Parameter(torch.ones(2))], False)]
    optimizer = optimizers.build(description, groups)
    for step, decay in relatives["schedule.dino_wd"].tolist():
        progress, whole = step / (epochs * each), {"steps": int(epochs * each), "epochs": int(epochs)}
        optimizers.set_rates(optimizer, description, progress, batch_size=256, **whole)
        assert [group["weight_decay"] for group in optimizer.param_groups] == [pytest.approx(decay, rel=1e-12), 0.0]


def test_each_tensor_is_clipped_by_itself(relatives: Golden) -> None:
    before = [nn.Parameter(torch.zeros_like(relatives[f"dino.clip.before{number}"])) for number in range(3)]
    description = SgdOptimizer(clip_each=float(relatives["dino.clip.limit"]))
    optimizer = optimizers.build(description, [Group([*before, nn.Parameter(torch.ones(1))], True)])
    for number, parameter in enumerate(before):
        parameter.grad = relatives[f"dino.clip.before{number}"].clone()
    optimizers.clip_gradients(optimizer, description)
    for number, parameter in enumerate(before):
        assert_close(parameter.grad, relatives[f"dino.clip.after{number}"], rtol=1e-12, atol=0)


def test_the_whole_gradient_is_clipped() -> None:
    parameters = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    description = SgdOptimizer(clip=1.0)
    optimizer = optimizers.build(description, [Group([one], True) for one in parameters])
    for gradients, expected in (((3.0, 4.0), (0.6, 0.8)), ((0.3, 0.4), (0.3, 0.4))):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor([gradient])
        optimizers.clip_gradients(optimizer, description)
        assert [float(one.grad) for one in parameters if one.grad is not None] == pytest.approx(expected, abs=1e-5)


def group_of_one(**options: Any) -> Group:
    return Group([nn.Parameter(torch.ones(1, 1))], True)._replace(**options)


def weight(group: Group) -> float:
    return float(group.parameters[0].detach())


def test_groups_have_their_own_rates() -> None:
    description = LarsOptimizer(lr=0.4, bias_lr=0.1, weight_decay=0.5)
    groups = [group_of_one(rate=2.0), group_of_one(rate=3.0, decay=False), group_of_one(schedule="constant")]
    optimizer = optimizers.build(description, groups)
    optimizers.set_rates(optimizer, description, 0.05, batch_size=512, steps=100, epochs=20, warmup=0.1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.8, 0.3, 0.8])  # half, half, all
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0, 0.5]
    assert [group["adapt"] for group in optimizer.param_groups] == [True, False, True]


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
def test_a_group_that_starts_later_is_left_alone_until_then(kind: type[Optimizer]) -> None:
    early, late = group_of_one(), group_of_one(starts=0.5)
    optimizer = optimizers.build(kind(), [early, late])
    for progress in (0.0, 0.49, 0.5):
        for group in (early, late):
            group.parameters[0].grad = torch.ones(1, 1)
        optimizers.drop_gradients_before_start(optimizer, progress)
        optimizer.step()
        assert (weight(late) == 1.0) is (progress < 0.5)
        assert bool(optimizer.state[late.parameters[0]]) is (progress >= 0.5)
    assert weight(early) < weight(late) < 1.0


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
def test_renewed_parameters_begin_without_state(kind: type[Optimizer]) -> None:
    """After the state is dropped, a step is that of a new optimiser; the other parameter goes on."""
    ends: list[float] = []
    for steps in (0, 3):
        renewed, other = group_of_one(), group_of_one()
        optimizer = optimizers.build(kind(), [renewed, other])
        for step in range(steps + 1):
            renewed.parameters[0].grad, other.parameters[0].grad = torch.full((2, 1, 1), 0.5).unbind()
            if step == steps:
                renewed.parameters[0].data.fill_(1.0)
                optimizers.forget(optimizer, renewed.parameters)
                assert bool(optimizer.state[other.parameters[0]]) is (steps > 0)
            optimizer.step()
        ends.append(weight(renewed))
    assert ends[0] == ends[1]


def test_adam_adds_its_decay_to_the_gradient() -> None:
    """The first step is of the rate's size whatever the gradient: with L2 decay alone the weight moves by all of it."""
    group = group_of_one()
    optimizer = optimizers.build(AdamOptimizer(lr=0.01, weight_decay=0.1), [group])
    group.parameters[0].grad = torch.zeros(1, 1)
    optimizer.step()
    assert weight(group) == pytest.approx(0.99, abs=1e-6)


@pytest.mark.parametrize("name", ["moco_v2", "moco_v3", "byol", "dino"])
def test_teachers_average_is_that_of_the_released_codes(relatives: Golden, name: str) -> None:
    student = nn.Linear(4, 5, bias=False, dtype=torch.float64)
    student.weight.data.copy_(relatives["ema.teacher0"])
    teacher = Teacher(student)
    for step, momentum in enumerate(relatives[f"ema.{name}_momentum"].tolist()):
        student.weight.data.copy_(relatives["ema.student"][step])
        teacher.follow(student, momentum=momentum)
        assert_close(next(teacher.parameters()).detach(), relatives[f"ema.{name}"][step], rtol=1e-12, atol=0)
