"""Σ_ij C_ij² of a cross-correlation C = Z₁ᵀ Z₂ / N by N x N matrices: exact for any width, without the D x D matrix.

Σ_ij C_ij² = tr(Z₁ᵀ Z₂ Z₂ᵀ Z₁) / N² = <Z₁ Z₁ᵀ, Z₂ Z₂ᵀ> / N², and the diagonal of C is a sum over rows: 8 n N D
operations a process, forward and backward, where the D x D matrix costs 6 n D². Of one view alone, Z₁ = Z₂, both take
half.

The total minus the diagonal cancels only where C is nearly diagonal, which takes N > D: with N < D the rank of C is
below N, so Σ_ij C_ij² ≥ (Σ_i C_ii)² / N. Where it cancels the D x D form is the cheaper one and is taken.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from gemel.distributed import gather, mean_over_processes, world_size
from gemel.methods.parts.precision import exact_products, pieces, widened
from gemel.methods.parts.standardise import standardise_fixed

BLOCK_ROWS = 128
"""rows of a block: a Gram matrix is symmetric, so blocks are computed from the diagonal on and mirrored"""


def gram_terms(one: Tensor, two: Tensor | None, standardised: bool) -> tuple[Tensor, Tensor]:
    """Return Σ_i (1 - C_ii)² and Σ_i Σ_{j≠i} C_ij², in O(N² + N D) memory beside the inputs.

    Args:
        one: (n, D), this process's rows of the first view.
        two: (n, D), of the second; None: the first again.
        standardised: whether columns are standardised here to mean 0 and variance 1; else they are used as given.
    """
    return cast(tuple[Tensor, Tensor], _Gram.apply(one, two, standardised))


class _Gram(Function):
    """Saves the inputs, mean and scale of each view, and this process's rows of each one's Gram matrix.

    The other view of view v is number -1 - v, the view itself where there is one.
    """

    @staticmethod
    def forward(ctx: Any, one: Tensor, two: Tensor | None, standardised: bool) -> tuple[Tensor, Tensor]:
        views = [one] if two is None else [one, two]
        count, (n, width) = len(views), one.shape
        example = widened(one[:0])
        grams = example.new_zeros(count, n, n * world_size())
        diagonal = example.new_zeros(width)
        mean, scale = example.new_zeros(count, width), example.new_ones(count, width)
        for part in _chunks(one):
            z = [widened(rows[:, part]) for rows in views]  # (n, k) each
            for view in range(count):
                if standardised:
                    z[view], mean[view, part], scale[view, part] = standardise_fixed(z[view])
                _add_gram(grams[view], z[view], gather(z[view]))
            diagonal[part] = (z[0] * z[-1]).mean(0)
        if world_size() == 1:
            for gram in grams:
                _mirror(gram)
        diagonal = mean_over_processes(diagonal)
        ctx.standardised = standardised
        ctx.save_for_backward(mean, scale, diagonal, grams, *views)
        return (1 - diagonal).square().sum(), _redundancy(grams, diagonal)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        mean, scale, diagonal, grams, *views = ctx.saved_tensors
        total = grams.shape[2]
        # every process holds the same two terms: their gradients add up; a single view is in both places
        to_invariance, to_redundancy = mean_over_processes(torch.stack(grads)) * (world_size() * 2 / len(views))
        to_square = 2 * to_redundancy / total**2  # of G₂ Z₁ in the gradient by Z₁
        to_other = (-2 * to_invariance * (1 - diagonal) - 2 * to_redundancy * diagonal) / total  # of Z₂; (D,)
        wanted = [view for view in range(len(views)) if ctx.needs_input_grad[view]]
        found: list[Tensor | None] = [None, None]
        for view in wanted:
            found[view] = torch.empty_like(views[view])
        with exact_products(views[0].device):
            for part in _chunks(views[0]):
                z = [
                    (widened(rows[:, part]) - mean[view, part]).mul_(scale[view, part])
                    for view, rows in enumerate(views)
                ]
                for view in wanted:
                    product = grams[-1 - view] @ gather(z[view])  # (n, k)
                    own = mean_over_processes((product * z[view]).mean(0))
                    own = to_square * own + to_other[part] * diagonal[part]  # mean over rows of gradient times Z
                    by = scale[view, part]
                    product.mul_(to_square * by).addcmul_(z[-1 - view], to_other[part] * by)
                    if ctx.standardised:  # the gradient's mean is 0 as that of Z is
                        product.addcmul_(z[view], own * by, value=-1)
                    cast(Tensor, found[view])[:, part] = product
        return (*found, None)


def _chunks(rows: Tensor) -> Iterator[slice]:
    n, width = rows.shape
    return pieces(width, 8 * n * world_size(), rows.device, least=256 * world_size(), caches=8)


def _add_gram(gram: Tensor, rows: Tensor, everywhere: Tensor) -> None:
    """Add rows · everywhereᵀ; on one process only blocks from the diagonal on."""
    if world_size() > 1:
        gram.addmm_(rows, everywhere.T)
        return
    for start in range(0, len(rows), BLOCK_ROWS):
        gram[start : start + BLOCK_ROWS, start:].addmm_(rows[start : start + BLOCK_ROWS], everywhere[start:].T)


def _mirror(gram: Tensor) -> None:
    for start in range(0, len(gram), BLOCK_ROWS):
        stop = start + BLOCK_ROWS
        gram[stop:, start:stop] = gram[start:stop, stop:].T


def _redundancy(grams: Tensor, diagonal: Tensor) -> Tensor:
    """Return <G₁, G₂> / N² - Σ_i C_ii², summed in float64 where the device has it."""
    wide = torch.float32 if grams.device.type == "mps" else torch.float64
    total = grams.shape[2]
    blocks = zip(grams[0].split(BLOCK_ROWS), grams[-1].split(BLOCK_ROWS), strict=True)
    square = torch.stack([(one * two).sum(dtype=wide) for one, two in blocks]).sum()
    square = mean_over_processes(square) * world_size() / total**2
    return (square - diagonal.to(wide).square().sum()).clamp_min(0).to(grams.dtype)
