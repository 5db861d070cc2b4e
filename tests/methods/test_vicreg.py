"""VICReg's loss against the authors' code, and the values that the equation implies."""

from typing import Any

import pytest
import torch
from scipy.linalg import hadamard
from torch import Tensor
from toy import PRECISIONS, Golden, given, near

from gemel.methods.vicreg import vicreg_loss


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", ["full", "short"])
def test_loss(relatives: Golden, case: str, dtype: torch.dtype, tolerance: float) -> None:
    """short: a batch that isn't full, whose covariance is divided by the nominal size."""
    one, two = given(relatives, "vicreg", "z1 z2", dtype)
    nominal = int(relatives["vicreg.nominal_batch"]) if case == "short" else None
    terms = vicreg_loss(one, two, nominal_batch=nominal)
    terms["loss"].backward()
    for name, key in (("invariance", "repr"), ("variance", "std"), ("covariance", "cov"), ("loss", "loss")):
        near(terms[name], relatives[f"vicreg.{case}.{key}"], tolerance, key)
    near(one.grad, relatives[f"vicreg.{case}.grad_z1"], tolerance)
    near(two.grad, relatives[f"vicreg.{case}.grad_z2"], tolerance)


def written_out(one: Tensor, two: Tensor) -> Tensor:
    loss = 25 * (one - two).square().mean()
    for view in (one, two):
        loss = loss + 12.5 * torch.relu(1 - (view.var(0) + 1e-4).sqrt()).mean()
        covariance = torch.cov(view.T)
        loss = loss + (covariance.square().sum() - covariance.diagonal().square().sum()) / view.shape[1]
    return loss


@pytest.mark.parametrize(("n", "width"), [(12, 7), (7, 1500), (2, 3)])
def test_equation(n: int, width: int) -> None:
    """Where n is smaller than D it goes by the n x n matrices."""
    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(n, width, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)]
    expected = written_out(*views)
    gradients = torch.autograd.grad(expected, views)
    loss = vicreg_loss(*views)["loss"]
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    for found, gradient in zip(torch.autograd.grad(loss, views), gradients, strict=True):
        near(found, gradient, 1e-9)


def value(one: Any, two: Any = None) -> float:
    return float(vicreg_loss(one, one if two is None else two)["loss"])


def test_values() -> None:
    columns = torch.tensor(hadamard(16)[:, 1:9], dtype=torch.float64)
    assert value(torch.ones(16, 8, dtype=torch.float64)) == pytest.approx(24.75)
    assert value(columns) == pytest.approx(0.0, abs=1e-12)
    same = (columns[:, :1] * (15 / 16) ** 0.5).expand(-1, 8)
    assert value(same) == pytest.approx(14.0)
    assert value(columns + 5, columns + 5) == pytest.approx(0.0, abs=1e-12)


def test_one_row_has_no_variance() -> None:
    with pytest.raises(ValueError, match="two rows"):
        vicreg_loss(torch.ones(1, 3), torch.ones(1, 3))
