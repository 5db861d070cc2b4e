"""IIC against its released code, and what its loss must be."""

from math import log

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import PRECISIONS, Given, Golden, given, near

from gemel.backbones.convnet import convnet
from gemel.backbones.parts.sobel import sobel
from gemel.data.plan import Batch
from gemel.methods.iic import Iic, iic_loss
from hooks import batch_of, begun

CASES = [("", "lambda1", 1.0), ("", "lambda1.5", 1.5), ("over.", "over", 1.0), ("hard.", "hard", 1.0)]


@pytest.mark.parametrize(("inputs", "case", "lamb"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_released_loss(
    relatives_b: Golden, dtype: torch.dtype, tolerance: float, inputs: str, case: str, lamb: float
) -> None:
    one, two = given(relatives_b, "iic", f"{inputs}one {inputs}two", dtype)
    terms = iic_loss(one, two, lamb=lamb)
    terms["loss"].backward()
    near(terms["loss"], relatives_b[f"iic.{case}.loss"], tolerance)
    near(-terms["information"], relatives_b[f"iic.{case}.loss_no_lamb"], tolerance)
    for name, logits in (("one", one), ("two", two)):
        assert logits.grad is not None
        expected = relatives_b[f"iic.{case}.grad_{name}"]
        if not expected.any():
            assert float(logits.grad.abs().max()) < tolerance, "cells that are cut give no gradient"
            continue
        near(logits.grad, expected, 100 * tolerance, name)


@pytest.mark.parametrize(("inputs", "case", "lamb"), CASES)
def test_gradient_by_probabilities(relatives_b: Golden, inputs: str, case: str, lamb: float) -> None:
    """The softmax's own Jacobian hides what a cell that is cut gives."""
    one, two = given(relatives_b, "iic", f"{inputs}one {inputs}two", torch.float64)
    p, q = (logits.softmax(1).detach().requires_grad_() for logits in (one, two))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "softmax", lambda self, dim: self)
        iic_loss(p, q, lamb=lamb)["loss"].backward()
    near(p.grad, relatives_b[f"iic.{case}.grad_p"], 1e-9)
    near(q.grad, relatives_b[f"iic.{case}.grad_q"], 1e-9)


def test_joint(relatives_b: Golden) -> None:
    """Its information is that of the released joint distribution."""
    p = relatives_b["iic.joint"]
    assert_close(p, p.T)
    information = (p * (p / (p.sum(1, keepdim=True) * p.sum(0, keepdim=True))).log()).sum()
    near(iic_loss(relatives_b["iic.one"], relatives_b["iic.two"])["information"], information, 1e-9)


def test_repeats(relatives_b: Golden) -> None:
    """Five heads on 8 images with 3 transforms of each, as the method pairs them."""
    one, two = given(relatives_b, "iic.repeats", "one two", torch.float64)
    method = Iic(Given(50), classes=10, heads=5, turns=("B",)).double()
    for number, head in enumerate(method.heads):  # each head takes its own columns
        head.weight.data.zero_()
        head.weight.data[:, 10 * number : 10 * number + 10] = torch.eye(10)
        head.bias.data.zero_()
    views = [rows.transpose(0, 1).flatten(1) for rows in (one, *two.unbind(1))]
    loss = method(Batch(views, torch.arange(8), torch.full((8,), -1)), 0.0)["loss"]
    loss.backward()
    near(loss, relatives_b["iic.repeats.loss"], 1e-9)
    near(one.grad, relatives_b["iic.repeats.grad_one"], 1e-8)
    near(two.grad, relatives_b["iic.repeats.grad_two"], 1e-8)


def test_sobel(relatives_b: Golden) -> None:
    near(sobel(relatives_b["iic.sobel.gray"]), relatives_b["iic.sobel.out"], 1e-9)


def test_smallest_cases() -> None:
    certain = 200 * torch.eye(10, dtype=torch.float64).repeat(3, 1)
    flat = torch.zeros_like(certain)
    assert float(iic_loss(flat, flat)["loss"]) == pytest.approx(0.0, abs=1e-12)
    assert float(iic_loss(certain, certain)["loss"]) == pytest.approx(-log(10))
    assert float(iic_loss(certain, certain, lamb=1.5)["loss"]) == pytest.approx(-2 * log(10))
    shifted = certain.roll(1, 1)
    assert float(iic_loss(certain, shifted)["loss"]) == pytest.approx(log(2) - log(10)), "made symmetric"


def test_turns() -> None:
    """The heads whose turn it is not get gradients of zero."""
    method = begun(Iic(convnet(widths=(8, 8), strides=(2, 2)), classes=4, overclasses=6, heads=2))
    method(batch_of(method), 0.0)["loss"].backward()
    assert all(not one.grad.any() for one in method.heads.parameters())
    assert all(one.grad.any() for one in method.over.parameters())
    method.zero_grad()
    method.before_epoch(None, 0.3)  # type: ignore[arg-type]  # asks for nothing
    method(batch_of(method), 0.3)["loss"].backward()
    assert all(one.grad.any() for one in method.heads.parameters())
    assert all(not one.grad.any() for one in method.over.parameters())
