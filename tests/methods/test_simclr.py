"""SimCLR's loss and head against the authors' code, and the values that the equation implies."""

from math import exp, log

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from toy import PRECISIONS, Golden, given, near

from gemel.backbones.base import Backbone
from gemel.methods.parts import contrast
from gemel.methods.parts.contrast import log_sum_exp
from gemel.methods.simclr import SimClr, simclr_loss


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", ["sharp", "soft"])
def test_loss(relatives: Golden, case: str, dtype: torch.dtype, tolerance: float) -> None:
    one, two = given(relatives, "simclr", "z1 z2", dtype)
    temperature = float(relatives[f"simclr.{case}.temperature"])
    terms = simclr_loss(one, two, temperature=temperature)
    terms["loss"].backward()
    near(terms["loss"], relatives[f"simclr.{case}.loss"], tolerance)
    near(2 * terms["loss"], relatives[f"simclr.{case}.loss_code"], tolerance)
    for view, rows in enumerate((one, two), 1):
        assert rows.grad is not None
        near(rows.grad, relatives[f"simclr.{case}.grad_z{view}"], tolerance)
    logits = relatives[f"simclr.{case}.logits"]
    near(terms["similarity"] / temperature, logits.diagonal().mean(), tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_head(relatives: Golden, dtype: torch.dtype, tolerance: float) -> None:
    """Linear without bias, batch norm, ReLU, linear without bias, batch norm without a shift; both views in one."""
    method = SimClr(Backbone(torch.nn.Identity(), 20), projector=(20, 16)).to(dtype)
    head = method.projector
    own = dict(head.named_parameters())
    learned = [name for name, one in own.items() if one.requires_grad]
    assert learned == ["0.weight", "1.weight", "1.bias", "3.weight", "4.weight"]
    for name in learned:
        own[name].data.copy_(relatives[f"simclr.head.{name}"])
    one, two = given(relatives, "simclr.head", "h1 h2", dtype)
    first, second = head(torch.cat([one, two])).chunk(2)
    near(first, relatives["simclr.head.z1"], tolerance)
    near(second, relatives["simclr.head.z2"], tolerance)
    loss = simclr_loss(first, second, temperature=float(relatives["simclr.soft.temperature"]))["loss"]
    near(loss, relatives["simclr.head.loss"], tolerance)
    loss.backward()
    # gradients of sums that nearly cancel: float32 alone errs by more
    slack = tolerance if dtype == torch.float64 else 1e-4
    for name, value in {"grad_h1": one.grad, "grad_h2": two.grad}.items():
        near(value, relatives[f"simclr.head.{name}"], slack, name)
    for name in learned:
        near(own[name].grad, relatives[f"simclr.head.grad.{name}"], slack, name)


def test_values() -> None:
    for temperature, value in ((0.1, 4.538963e-4), (0.5, 0.855841)):
        rows = torch.eye(6, dtype=torch.float64)
        loss = float(simclr_loss(rows, rows, temperature=temperature)["loss"])
        assert loss == pytest.approx(value, rel=1e-6)
        assert loss == pytest.approx(log(1 + 10 * exp(-1 / temperature)), rel=1e-9)
    same = torch.ones(6, 3, dtype=torch.float64)
    assert float(simclr_loss(same, same)["loss"]) == pytest.approx(2.397895, abs=1e-6)


def rows_of(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]


def test_symmetries() -> None:
    one, two, mixing = rows_of((9, 5), (9, 5), (5, 5))
    rotation = torch.linalg.qr(mixing)[0]
    loss = simclr_loss(one, two)["loss"]
    lengths = torch.linspace(0.5, 3, 9, dtype=torch.float64)[:, None]
    for pair in ((two, one), (one @ rotation, two @ rotation), (lengths * one, two / lengths)):
        torch.testing.assert_close(simclr_loss(*pair)["loss"], loss)


@pytest.mark.parametrize("own", [None, 2])
@pytest.mark.parametrize("limit", [1, 2**20])
def test_log_sum_exp_in_pieces(own: int | None, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pieces: value and both gradients are those of the whole matrix."""
    monkeypatch.setattr(contrast, "pieces", lambda count, each, device, **_: _slices(count, limit))
    queries, candidates = (one.requires_grad_() for one in rows_of((5, 3), (9, 3)))
    scores = queries @ candidates.T / 0.3
    if own is not None:
        scores = scores.masked_fill(torch.ones_like(scores).triu(own).tril(own) > 0, -torch.inf)
    torch.testing.assert_close(log_sum_exp(queries, candidates, 0.3, own=own), scores.logsumexp(1))
    assert gradcheck(lambda one, two: log_sum_exp(one, two, 0.3, own=own), (queries, candidates))


def _slices(count: int, limit: int) -> list[slice]:
    return [slice(start, min(start + limit, count)) for start in range(0, count, limit)]


def test_half_precision_is_summed_in_float32() -> None:
    one, two = (rows.half().requires_grad_() for rows in rows_of((300, 40), (300, 40)))
    expected = simclr_loss(one.detach().double(), two.detach().double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = simclr_loss(one, two)
        terms["loss"].backward()
    assert terms["loss"].dtype == torch.float32
    torch.testing.assert_close(terms["loss"].double(), expected["loss"], rtol=1e-5, atol=1e-6)
    assert one.grad is not None and one.grad.dtype == torch.float16


@pytest.mark.parametrize(
    ("shapes", "temperature"), [(((4, 3), (5, 3)), 0.1), (((4,), (4,)), 0.1), (((4, 3), (4, 3)), 0.0)]
)
def test_what_is_refused(shapes: tuple[tuple[int, ...], ...], temperature: float) -> None:
    with pytest.raises(ValueError, match=r"\(n, D\) of one shape|temperature above 0"):
        simclr_loss(*rows_of(*shapes), temperature=temperature)
