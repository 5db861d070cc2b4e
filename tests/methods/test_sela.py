"""SeLa against its released code: transport, relabelling, and a whole run."""

from collections.abc import Iterator
from math import log
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import log_softmax
from torch.testing import assert_close
from toy import PRECISIONS, Given, Golden, given, near

from gemel.backbones.convnet import convnet
from gemel.data.batches import Batch
from gemel.methods.base import Embedded
from gemel.methods.parts.equipartition import Equipartition, equipartition
from gemel.methods.sela import SeLa, relabel_times, sela_loss
from hooks import begun


def solved(logits: Tensor, **options: Any) -> Equipartition:
    return equipartition(lambda part: log_softmax(logits[part].double(), 1), len(logits), **options)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_loss(relatives_b: Golden, dtype: torch.dtype, tolerance: float) -> None:
    [logits] = given(relatives_b, "sela", "logits", dtype)
    terms = sela_loss(logits, relatives_b["sela.labels"])
    terms["loss"].backward()
    near(terms["loss"], relatives_b["sela.loss"], tolerance)
    near(logits.grad, relatives_b["sela.grad_logits"], 10 * tolerance)


def test_transport(relatives_b: Golden) -> None:
    logits = relatives_b["sela.sinkhorn.logits"]
    found = solved(logits)
    assert torch.equal(found.labels, relatives_b["sela.sinkhorn.labels"])
    assert found.rounds == int(relatives_b["sela.sinkhorn.iterations"])
    near(torch.tensor(found.error, dtype=torch.float64), relatives_b["sela.sinkhorn.error"], 1e-9)
    exponents = 25 * log_softmax(logits, 1) + found.log_r + found.log_c[:, None]
    near(exponents.exp().T, relatives_b["sela.sinkhorn.transport"], 1e-9)


def test_transport_of_cifar(relatives_b: Golden) -> None:
    found = solved(relatives_b["sela.cifar.logits"], exponent=10.0, tolerance=0.01)
    assert torch.equal(found.labels, relatives_b["sela.cifar.labels"])
    assert found.rounds == int(relatives_b["sela.cifar.iterations"])
    near(torch.tensor(found.cost, dtype=torch.float64), relatives_b["sela.cifar.cost"], 1e-9)


@pytest.mark.parametrize("reach", [30.0, 1.0])
def test_a_matrix_in_float32_gives_the_same(reach: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where scalings are taken into it again and again: entries that had underflowed come back."""
    monkeypatch.setattr("gemel.methods.parts.equipartition.REACH", dict.fromkeys((torch.float32, torch.float64), reach))
    generator = torch.Generator().manual_seed(0)
    # a class that nearly nobody would take: its scaling must grow by e^100 and more
    logits = torch.randn(60, 6, generator=generator, dtype=torch.float64) - torch.tensor([0, 0, 0, 0, 0, 8.0])
    exact, coarse = solved(logits), solved(logits, dtype=torch.float32)
    assert float(exact.log_r.max() - exact.log_r.min()) > 100
    assert torch.equal(exact.labels, coarse.labels)
    assert exact.rounds == coarse.rounds
    assert_close(coarse.log_r - coarse.log_r[0], exact.log_r - exact.log_r[0], rtol=1e-4, atol=1e-4)
    assert torch.bincount(exact.labels, minlength=6).tolist() == [10] * 6


def test_marginals() -> None:
    logits = torch.randn(50, 7, dtype=torch.float64)
    found = solved(logits, tolerance=1e-9)
    transport = (25 * log_softmax(logits, 1) + found.log_r + found.log_c[:, None]).exp()
    assert_close(transport.sum(0), torch.full((7,), 1 / 7, dtype=torch.float64))
    assert_close(transport.sum(1), torch.full((50,), 1 / 50, dtype=torch.float64))
    assert solved(logits, tolerance=0.0, most=20).rounds == 20


def test_uniform_logits() -> None:
    assert float(sela_loss(torch.zeros(2, 8, 5), torch.zeros(2, 8, dtype=torch.int64))["loss"]) == pytest.approx(log(5))


def test_times(relatives_b: Golden) -> None:
    """The released times, in images seen, run to 1.01 epochs beyond the last; its first entry is never reached."""
    times = relatives_b["sela.run.times"]
    assert_close(torch.tensor(released_times(2, 32), dtype=torch.float64), times[1:].flip(0))
    assert float(times[0]) == (2 + 2) * 32


def released_times(epochs: int, images: int) -> list[float]:
    return [(epochs + 1.01) * images * time for time in relabel_times(5)]


def batches(golden: Golden) -> Iterator[Batch]:
    """Three epochs in one order: the released code makes one more than it is told."""
    for _ in range(3):
        for index in golden["sela.run.order"]:
            yield Batch([golden["sela.run.features"][index]], index, torch.full((8,), -1))


def test_a_run(relatives_b: Golden) -> None:
    method = SeLa(Given(16), classes=6, heads=2, relabels=5).double()
    for number, head in enumerate(method.heads):
        head.weight.data.copy_(relatives_b[f"sela.run.weight{number}"])
        head.bias.data.copy_(relatives_b[f"sela.run.bias{number}"])
    method.attach(32)
    seen = Embedded(relatives_b["sela.run.features"][:, None], torch.ones(32, dtype=torch.bool))
    optimizer = torch.optim.SGD(method.parameters(), 0.05, momentum=0.9, weight_decay=1e-5)
    steps: list[int] = []
    for step, batch in enumerate(batches(relatives_b)):
        progress, before = step / 12, method.relabelled.value
        method.before_step(lambda *_, **__: seen, progress)
        if method.relabelled.value > before:
            assert torch.equal(method.labels, relatives_b["sela.run.labels"][len(steps)])
            steps.append(step)
        loss = method(batch, progress)["loss"]
        near(loss, relatives_b["sela.run.loss"][step], 1e-9)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert steps == relatives_b["sela.run.steps"].tolist()
    for number, head in enumerate(method.heads):
        near(head.weight, relatives_b[f"sela.run.final_weight{number}"], 1e-9)
        near(head.bias, relatives_b[f"sela.run.final_bias{number}"], 1e-9)


def method(**options: Any) -> SeLa:
    torch.manual_seed(0)
    backbone = convnet(widths=(8, 8), strides=(2, 2))
    return SeLa(backbone, **{"classes": 4, "heads": 3, "relabels": 5, "spacing": "linear", **options})


def test_one_head_a_time() -> None:
    """The others keep their labels, at first random ones of equal frequency."""
    made = begun(method(one_head=True), 20, epochs=0)
    assert all(torch.bincount(labels).tolist() == [5] * 4 for labels in made.labels)
    asked: list[dict[str, Any]] = []

    def embed(*_: Any, **options: Any) -> Embedded:
        asked.append(options)
        return Embedded(torch.randn(20, 1, made.backbone.width), torch.arange(20) < 16)

    for epoch, progress in enumerate((0.0, 0.3, 0.6)):
        before = made.labels.clone()
        made.before_epoch(embed, progress)
        made.before_step(embed, progress)
        changed = (made.labels != before).any(1).nonzero().flatten().tolist()
        assert changed == [epoch]
        assert torch.equal(made.labels[:, 16:], before[:, 16:]), "images that can't be read"
    made.before_step(embed, 0.65)
    assert asked == [{"views": True, "training": True}] * 3, "as released; and nothing where nothing is due"


def test_plain_labels() -> None:
    made = begun(method(augmented_labels=False), 20, epochs=0)
    asked: list[dict[str, Any]] = []

    def embed(*_: Any, **options: Any) -> Embedded:
        asked.append(options)
        return Embedded(torch.randn(20, made.backbone.width), torch.ones(20, dtype=torch.bool))

    made.before_step(embed, 0.0)
    assert asked == [{}]
