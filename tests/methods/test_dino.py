"""DINO against the authors' code: loss, centre, temperatures, and whole steps with a late last layer."""

from itertools import pairwise
from math import log

import pytest
import torch
from toy import PRECISIONS, Golden, backbone, check, load, near, train

from gemel.data.batches import Batch
from gemel.methods.dino import Dino, dino_loss, moved_center
from gemel.schedules import cosine
from gemel.settings.recipes import AdamWOptimizer

NAMES = {"backbone.network.": "backbone."}
TEACHER = {"networks.0.network.": "backbone.", "networks.1.": "head."}


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_loss_and_centre(relatives: Golden, dtype: torch.dtype, tolerance: float) -> None:
    momentum, center = float(relatives["dino.center_momentum"]), torch.zeros(32, dtype=dtype)
    for step in range(3):
        student = relatives["dino.student"][step].to(dtype, copy=True).requires_grad_()
        teacher = relatives["dino.teacher"][step].to(dtype)
        terms = dino_loss(
            student,
            teacher,
            center=center,
            teacher_temperature=float(relatives["dino.teacher_temperature"][step]),
            student_temperature=float(relatives["dino.student_temperature"]),
        )
        terms["loss"].backward()
        near(terms["loss"], relatives["dino.loss"][step], tolerance)
        near(student.grad, relatives["dino.grad_student"][step], tolerance)
        center = moved_center(center, teacher.flatten(0, 1), momentum)
        near(center, relatives["dino.center"][step], tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_whole_steps(relatives: Golden, dtype: torch.dtype, tolerance: float) -> None:
    """Clipped tensor by tensor, then the last layer's gradient is dropped in the first of two epochs."""
    numbers = {key.removeprefix("dino.net."): value for key, value in relatives.items() if key.startswith("dino.net.")}
    each, first, last = int(numbers["steps_per_epoch"]), *map(float, numbers["teacher_temperature"])
    method = Dino(
        backbone(), prototypes=32, hidden=24, bottleneck=16, momentum=float(numbers["momentum"][0]),
        teacher_temperature=(first, last), warmup_epochs=2, freeze=float(numbers["freeze_epochs"]) / 2,
    ).to(dtype)  # fmt: skip
    load(method, relatives, "dino.net.init", NAMES)
    method.before_stage("pretrain", None)
    images = zip(numbers["x_global"].to(dtype), numbers["x_local"].to(dtype), strict=True)
    data = [Batch([*large, *small], torch.arange(24), torch.full((24,), -1)) for large, small in images]

    def before(step: int, optimizer: torch.optim.Optimizer) -> None:
        if step % each == 0:
            method.before_epoch(None, step / 4)
        for group in optimizer.param_groups:
            group["weight_decay"] = float(numbers["decay"][step]) if group["decays"] else 0.0

    description = AdamWOptimizer(clip_each=float(numbers["clip"]))
    losses = train(method, description, data, numbers["lr"].tolist(), before=before)
    near(torch.stack(losses), numbers["loss"], tolerance)
    expected = [cosine(step / 4, float(numbers["momentum"][0]), 1.0) for step in range(4)]
    assert numbers["momentum"].tolist() == pytest.approx(expected, rel=1e-12)
    near(method.center, numbers["center"], tolerance)
    check(method, relatives, "dino.net.student", NAMES, tolerance)
    check(method.teacher, relatives, "dino.net.teacher", TEACHER, tolerance)


def test_schedules(relatives: Golden) -> None:
    start, end, warmup, _ = relatives["schedule.dino_t.hp"].tolist()
    method = Dino(
        backbone(), prototypes=4, hidden=8, bottleneck=4, teacher_temperature=(start, end), warmup_epochs=int(warmup)
    )
    for epoch, temperature in relatives["schedule.dino_t"].tolist():
        method.epochs.value = int(epoch) + 1
        assert method._temperature() == pytest.approx(temperature, rel=1e-12)
    start, end, epochs, each = relatives["schedule.dino_m.hp"].tolist()
    for step, momentum in relatives["schedule.dino_m"].tolist():
        assert cosine(step / (epochs * each), start, end) == pytest.approx(momentum, rel=1e-12)


def test_values() -> None:
    for count, value in ((65536, 11.090355), (60000, 11.0021)):
        zeros = torch.zeros(3, 2, count, dtype=torch.float64)
        terms = dino_loss(zeros, zeros[:2], center=zeros[0, 0], teacher_temperature=0.04)
        assert float(terms["loss"]) == pytest.approx(log(count))
        assert float(terms["loss"]) == pytest.approx(value, abs=2e-5)
        assert float(terms["entropy"]) == pytest.approx(log(count))


def test_what_the_loss_does_not_see() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(count, 6, 9, generator=generator, dtype=torch.float64) for count in (4, 2))
    center, shift = torch.randn(2, 9, generator=generator, dtype=torch.float64)
    options = {"teacher_temperature": 0.05}
    loss = dino_loss(student, teacher, center=center, **options)["loss"]
    torch.testing.assert_close(dino_loss(student, teacher + shift, center=center + shift, **options)["loss"], loss)
    same = (teacher[:1] - center) / 0.05 * 0.1  # what makes the student's distribution the teacher's
    terms = dino_loss(same.expand(3, -1, -1), teacher[:1].expand(2, -1, -1), center=center, **options)
    torch.testing.assert_close(terms["loss"], terms["entropy"])
    assert float(loss) > float(dino_loss(student, teacher, center=center, **options)["entropy"])


def test_groups() -> None:
    """Tokens and positions decay, biases and what has one dimension do not; the last layer begins late."""
    method = Dino(backbone(), prototypes=6, hidden=8, bottleneck=4, norm=True, scaled=True, freeze=0.25)
    method.backbone.register_parameter("pos_embed", torch.nn.Parameter(torch.zeros(1, 3, 4)))
    found = {(group.decay, group.starts): group.parameters for group in method.parameter_groups()}
    assert set(found) == {(True, 0.0), (True, 0.25), (False, 0.0)}
    assert [one.shape[0] for one in found[True, 0.25]] == [6, 6]  # weight_g and weight_v
    assert any(one is method.backbone.pos_embed for one in found[True, 0.0])
    assert all(one.ndim == 1 for one in found[False, 0.0])


def test_the_head_begins_as_released() -> None:
    torch.manual_seed(0)
    head = Dino(backbone(), prototypes=500, hidden=300, bottleneck=200, layers=2).head
    linears = [layer for layer in head.mlp if isinstance(layer, torch.nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in linears] == [(300, 20), (200, 300)]
    assert all(0.018 < float(layer.weight.detach().std()) < 0.022 for layer in linears)
    assert not any(bool(layer.bias.detach().any()) for layer in linears)
    largest = float(head.last_layer.weight_v.detach().abs().max())
    assert 0.99 * 200**-0.5 < largest <= 200**-0.5  # torch's own of a linear layer
    lengths = head(torch.randn(3, 20)).abs().max(1).values
    assert all(one <= 1 + 1e-6 for one in lengths.tolist())


def test_teacher_s_temperature_needs_no_epochs_in_a_bare_loop() -> None:
    method = Dino(backbone(), prototypes=4, hidden=8, bottleneck=4, teacher_temperature=(0.04, 0.07), warmup_epochs=4)
    seen: list[float] = []
    for _ in range(6):
        seen.append(method._temperature())
        method.before_epoch(None, 0.0)
    assert seen[0] == seen[1] == pytest.approx(0.04)
    assert all(one <= two for one, two in pairwise(seen))
    assert seen[-1] == pytest.approx(0.07)
