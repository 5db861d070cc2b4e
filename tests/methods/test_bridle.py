"""Bridle, Heading and MacKay: the closed form, and what its information must be."""

from math import log

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toy import PRECISIONS, Golden, given, near

from gemel.methods.bridle import bridle_loss


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_closed_form(relatives_b: Golden, dtype: torch.dtype, tolerance: float) -> None:
    [logits] = given(relatives_b, "bridle", "logits", dtype)
    terms = bridle_loss(logits)
    terms["loss"].backward()
    for name in ("conditional", "marginal", "loss"):
        near(terms[name], relatives_b[f"bridle.{name}"], tolerance, name)
    near(logits.grad, relatives_b["bridle.grad_logits"], 10 * tolerance)


def information(logits: Tensor) -> float:
    return -float(bridle_loss(logits)["loss"])


def test_smallest_cases() -> None:
    certain = 200 * torch.eye(6, dtype=torch.float64).repeat(4, 1)
    assert information(certain) == pytest.approx(log(6))
    assert information(torch.ones(8, 6)) == pytest.approx(0.0, abs=1e-6)
    assert information(torch.randn(1, 6)) == pytest.approx(0.0, abs=1e-6)
    assert 0 <= information(torch.randn(3, 50) * 9) <= log(3)
    assert information(200 * torch.eye(6)[:1].repeat(4, 1)) == pytest.approx(0.0, abs=1e-6), "classes that nobody takes"


def test_gradient_is_that_of_phantom_targets() -> None:
    logits = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    bridle_loss(logits)["loss"].backward()
    p = logits.detach().softmax(1)
    ratio = (p / p.mean(0)).log()
    assert_close(logits.grad, -p * (ratio - (p * ratio).sum(1, keepdim=True)) / 7)


def test_shapes() -> None:
    with pytest.raises(ValueError, match=r"logits \(n, C\) are needed"):
        bridle_loss(torch.zeros(3))
