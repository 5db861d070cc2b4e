"""IMAX: the closed form, and its invariances."""

from math import log

import pytest
import torch
from torch.testing import assert_close
from toy import PRECISIONS, Golden, given, near

from gemel.backbones.convnet import convnet
from gemel.errors import UserError
from gemel.methods.imax import Imax, imax_loss
from hooks import batch_of


@pytest.mark.parametrize("ridge", ["0", "0.001"])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_closed_form(relatives_b: Golden, dtype: torch.dtype, tolerance: float, ridge: str) -> None:
    one, two = given(relatives_b, "imax", "one two", dtype)
    terms = imax_loss(one, two, ridge=float(ridge))
    terms["loss"].backward()
    for name in ("difference", "sum", "loss"):
        near(terms[name], relatives_b[f"imax.ridge{ridge}.{name}"], tolerance, name)
    for name, rows in (("one", one), ("two", two)):
        near(rows.grad, relatives_b[f"imax.ridge{ridge}.grad_{name}"], 10 * tolerance, name)


def test_one_dimension(relatives_b: Golden) -> None:
    one, two = (relatives_b[f"imax.{name}"][:, :1] for name in ("one", "two"))
    near(-imax_loss(one, two)["loss"] / 2, relatives_b["imax.scalar"], 1e-9)


def test_gaussians_of_known_information() -> None:
    """D log(2s² / (4 + 2s²)) where unit signals meet noise of variance s²; at n = 20,000 about 0.03 above it."""
    generator = torch.Generator().manual_seed(0)
    signal, *noise = torch.randn(3, 20_000, 3, generator=generator, dtype=torch.float64)
    one, two = (signal + 0.3**0.5 * one for one in noise)
    expected = 3 * log(0.6 / 4.6)
    assert expected == pytest.approx(-6.110646, abs=1e-5)
    assert float(imax_loss(one, two)["loss"]) == pytest.approx(expected, abs=0.1)


def test_linear_maps_and_shifts_change_nothing() -> None:
    one, two, mixing = torch.randn(40, 6, dtype=torch.float64), torch.randn(40, 6).double(), torch.randn(6, 6).double()
    expected = imax_loss(one, one + 0.3 * two)["loss"]
    assert_close(imax_loss(one @ mixing + 3, (one + 0.3 * two) @ mixing - 5)["loss"], expected)
    assert float(imax_loss(one, one, ridge=1e-3)["loss"]) > -torch.inf, "equal views have a bound"


def test_a_batch_must_exceed_the_dimensions() -> None:
    method = Imax(convnet(widths=(8, 8), strides=(2, 2)), projector=(16, 12))
    with pytest.raises(UserError, match=r"a batch of 12 images for embeddings of 12 dimensions.*raise --batch-size"):
        method(batch_of(method), 0.0)
