"""The two terms of Barlow Twins' loss in two forms, and which form is cheaper."""

from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from gemel.distributed import mean_over_processes, world_size
from gemel.methods.parts.gram import gram_terms
from gemel.methods.parts.precision import exact_products, pieces, widened
from gemel.methods.parts.standardise import standardise_fixed

Form = Literal["auto", "correlation", "gram"]

PASSES = 250
"""cost of an entry of the D x D matrix beside the products, in operations of a matrix product"""
START = 4e7
"""fixed cost of the Gram form beside its products"""
OPERATIONS_A_BYTE = 500
"""cost of sending a byte between processes; accelerators: 200 to 2,000"""


def correlation_terms(
    one: Tensor, two: Tensor | None, *, form: Form = "auto", standardised: bool = True
) -> dict[str, Tensor]:
    r"""Return Σ_i (1 - C_ii)² and Σ_i Σ_{j≠i} C_ij², C = Z₁ᵀ Z₂ / N over the global batch; both forms are exact.

    Args:
        one: (n, D), this process's rows of the first view.
        two: (n, D), of the second; None: the first again, C is its own correlation or covariance, in half the time.
        form: correlation: by the D x D matrix; gram: by N x N matrices; auto: the cheaper.
        standardised: whether columns are standardised here to mean 0 and variance 1; else they are used as given.

    Returns:
        invariance and redundancy, scalars in float32 (float64 for float64 input); products and sums are never
        narrower, under autocast too.

    Raises:
        ValueError: the shapes differ, are not (n, D), or the form is unknown.
    """
    check_pair(one, one if two is None else two)
    if form not in ("auto", "correlation", "gram"):
        raise ValueError(f"form must be auto, correlation or gram, not {form!r}")
    if form == "auto":
        form = cheaper_form(len(one), one.shape[1], world_size())
    with exact_products(one.device):
        if form == "gram":
            invariance, redundancy = gram_terms(one, two, standardised)
        else:
            invariance, redundancy = cast(tuple[Tensor, Tensor], _Correlation.apply(one, two, standardised))
    return {"invariance": invariance, "redundancy": redundancy}


def check_pair(one: Tensor, two: Tensor) -> None:
    """Raise ValueError unless both are (n, D) of one shape."""
    if one.shape != two.shape or one.ndim != 2:
        raise ValueError(f"two matrices (n, D) of one shape are needed, not {tuple(one.shape)} and {tuple(two.shape)}")


def cheaper_form(n: int, width: int, processes: int = 1) -> Literal["correlation", "gram"]:
    """Return the form that takes less time: operations, passes over the D x D matrix, bytes between processes.

    Args:
        n: rows of one process.
        width: D.
        processes: W; the global batch has W n rows.

    >>> cheaper_form(256, 8192), cheaper_form(4096, 512), cheaper_form(128, 1024, processes=16)
    ('gram', 'correlation', 'correlation')
    """
    total, others = n * processes, 2 * (processes - 1) / processes
    matrix = 6 * n * width**2 + PASSES * width**2 + OPERATIONS_A_BYTE * others * 4 * width**2
    # both views are sent forward and again backward, which keeps no copy of the other processes' rows
    rows = START + 8 * n * total * width + OPERATIONS_A_BYTE * others * 8 * total * width
    return "gram" if rows < matrix else "correlation"


class _Correlation(Function):
    """Keeps the standardised embeddings and the D x D matrix without its diagonal."""

    @staticmethod
    def forward(ctx: Any, one: Tensor, two: Tensor | None, standardised: bool) -> tuple[Tensor, Tensor]:
        z1, scale1 = _standardised(one, standardised)
        z2, scale2 = (z1, scale1) if two is None else _standardised(two, standardised)
        matrix = mean_over_processes((z1.T @ z2).div_(len(one)))  # (D, D)
        places = matrix.diagonal()
        diagonal = places.clone()
        places.zero_()  # nothing cancels: what is summed is the off-diagonal alone
        by_row, by_column = _squares(matrix)
        ctx.dtype, ctx.places = one.dtype, 2 if two is None else 1
        ctx.save_for_backward(z1, z2, scale1, scale2, by_row, by_column, diagonal, matrix)
        return (1 - diagonal).square_().sum(), by_row.sum()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        z1, z2, scale1, scale2, by_row, by_column, diagonal, matrix = ctx.saved_tensors
        # every process holds the same two terms: their gradients add up; a single view is in both places
        to_invariance, to_square = (mean_over_processes(grad) * (2 * ctx.places / len(z1)) for grad in grads)
        to_other = (diagonal - 1).mul_(to_invariance)  # of Z₂ in the gradient by Z₁; (D,)
        views = ((z1, z2, matrix.T, scale1, by_row), (z2, z1, matrix, scale2, by_column))
        found: list[Tensor | None] = [None, None]
        with exact_products(z1.device):
            for view, (z, other, mixing, scale, squares) in enumerate(views):
                if ctx.needs_input_grad[view]:
                    # what scales columns scales the matrix, which has fewer rows than Z where this form is chosen
                    mixed = mixing * to_square
                    mixed.diagonal().add_(to_other)
                    if scale is None:
                        gradient = other @ mixed  # (n, D)
                    else:  # its mean over rows is 0 as that of Z is; its mean with Z is:
                        own = (to_square * squares).addcmul_(to_other, diagonal)
                        gradient = (other @ mixed.mul_(scale)).addcmul_(z, own.mul_(scale), value=-1)
                    found[view] = gradient.to(ctx.dtype)
        return (*found, None)


def _standardised(rows: Tensor, standardised: bool) -> tuple[Tensor, Tensor | None]:
    if not standardised:
        return widened(rows), None
    z, _, scale = standardise_fixed(rows)
    return z, scale


def _squares(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of squares by row and by column, (D,) each, in blocks of rows that a cache holds."""
    blocks = (matrix[rows].square() for rows in pieces(len(matrix), 4 * len(matrix), matrix.device))
    by_row, by_column = zip(*((block.sum(1), block.sum(0)) for block in blocks), strict=True)
    if len(by_row) == 1:
        return by_row[0], by_column[0]
    return torch.cat(by_row), torch.stack(by_column).sum(0)
