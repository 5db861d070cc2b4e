"""W-MSE's loss and whitening against the authors' code, and what whitening implies."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from toy import PRECISIONS, Golden, backbone, batches, near

from gemel.errors import UserError
from gemel.methods.w_mse import WMse, w_mse_loss, whiten

CASES = {
    "two": ([0, 1], [0], {}),
    "all": ([0, 1, 2, 3], [0], {}),
    "mse": ([0, 1], [0], {"measure": "squares"}),
    "again": ([0, 1], [0, 1, 2], {}),
    "shrink": ([0, 1], [0], {"shrinkage": 0.1}),
}
"""views, permutations, options"""


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_loss(relatives: Golden, case: str, dtype: torch.dtype, tolerance: float) -> None:
    """Sub-batches of two permutations' rows; the sources allow 2e-5 in float32."""
    tolerance = max(tolerance, 2e-5) if dtype == torch.float32 else tolerance
    views, permutations, options = CASES[case]
    assert float(relatives["w_mse.shrink.eps"]) == CASES["shrink"][2]["shrinkage"]
    rows = [relatives["w_mse.h"][view].to(dtype, copy=True).requires_grad_() for view in views]
    order, size = relatives["w_mse.perm"][permutations], int(relatives["w_mse.w_size"])
    terms = w_mse_loss(rows, order, size=size, **options)
    terms["loss"].backward()
    near(terms["loss"], relatives[f"w_mse.{case}.loss"], tolerance)
    near(torch.stack([one.grad for one in rows if one.grad is not None]), relatives[f"w_mse.{case}.grad"], tolerance)
    if f"w_mse.{case}.white" in relatives:
        white = [whiten(one, order[0], size=size, shrinkage=options.get("shrinkage", 0.0)) for one in rows]
        near(torch.stack(white), relatives[f"w_mse.{case}.white"], tolerance)


def rows_of(count: int = 24, width: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_white_rows() -> None:
    rows, order = rows_of(), torch.randperm(24, generator=torch.Generator().manual_seed(1))
    white = whiten(rows, order, size=8)
    for start, stop in pairwise(range(0, 25, 8)):
        part = white[order[start:stop]]
        torch.testing.assert_close(part.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-14, rtol=0)
        torch.testing.assert_close(torch.cov(part.T), torch.eye(3, dtype=torch.float64), atol=1e-13, rtol=0)
        assert float(part.square().sum()) == pytest.approx(7 * 3)
    lower = torch.tensor([[2.0, 0, 0], [1, 3, 0], [-4, 0.5, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(whiten(rows @ lower.T + 5, order, size=8), white)


def test_values() -> None:
    one, two, order = rows_of(4096, 8), rows_of(4096, 8, seed=1), torch.arange(4096)[None]
    assert float(w_mse_loss([one, one], order)["loss"]) == pytest.approx(0.0, abs=1e-12)
    assert float(w_mse_loss([one, two], order)["loss"]) == pytest.approx(2.0, abs=0.05)


def test_any_number_of_views_and_one_pass_of_the_head() -> None:
    method = WMse(backbone(), projector=(16, 2), whitening=4, iterations=3)
    heads: list[int] = []
    method.projector.register_forward_hook(lambda module, given, out: heads.append(len(out)))
    for views in (2, 4):
        (batch,) = batches(torch.randn(1, views, 12, 3, 2, 2))
        assert torch.isfinite(method(batch, 0.0)["loss"])
    assert heads == [24, 48]


@pytest.mark.parametrize(("whitening", "width"), [(5, 2), (4, 4)])
def test_sub_batches_that_can_t_be_whitened(whitening: int, width: int) -> None:
    (batch,) = batches(torch.randn(1, 2, 12, 3, 2, 2))
    with pytest.raises(UserError, match=rf"--method\.whitening {whitening} with 12 images"):
        WMse(backbone(), projector=(16, width), whitening=whitening)(batch, 0.0)
