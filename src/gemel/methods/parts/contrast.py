"""Contrast of rows with candidates: log Σ_j exp(<q_i, k_j> / τ) in pieces, so that no matrix of all pairs is kept.

SimCLR, both MoCos and DenseCL are cross-entropies over such scores. Queries and candidates may be many: the rows of a
batch of thousands, or the positions of feature maps against a queue.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import normalize

from gemel.methods.parts.precision import exact_products, pieces, widened


def unit(rows: Tensor, *, floor: float = 1e-12) -> Tensor:
    """Return rows divided by their length, (n, D), in float32 or wider; a length below `floor` counts as `floor`."""
    return normalize(widened(rows), dim=1, eps=floor)


def mean_cosine(rows: Tensor, targets: Tensor, *, floor: float) -> Tensor:
    """Return 1/n Σ_i cos(rows_i, targets_i), -1..1, over this process's rows; targets take no gradient.

    A length below `floor` counts as `floor`.
    """
    return cast(Tensor, _MeanCosine.apply(widened(rows), widened(targets.detach()), floor))


def log_sum_exp(queries: Tensor, candidates: Tensor, temperature: float, *, own: int | None = None) -> Tensor:
    """Return log Σ_j exp(<q_i, k_j> / τ) of each query, (n,), differentiable in both; memory beside them is small.

    Args:
        queries: (n, D), in float32 or wider.
        candidates: (N, D).
        temperature: τ.
        own: candidate own + i is left out of query i's sum; None: none is.
    """
    return cast(Tensor, _LogSumExp.apply(queries, candidates, temperature, own))


def check_contrast(temperature: float, *matrices: Tensor) -> None:
    """Raise ValueError unless τ is positive, and all matrices are (n, D) of one shape."""
    if temperature <= 0:
        raise ValueError(f"a temperature above 0 is needed, not {temperature}")
    check_pairs(*matrices)


def check_pairs(*matrices: Tensor) -> None:
    """Raise ValueError unless all matrices are (n, D) of one shape."""
    shapes = sorted({tuple(one.shape) for one in matrices})
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise ValueError(f"matrices (n, D) of one shape are needed, not {shapes}")


class _MeanCosine(Function):
    """d cos / dx = (t / |t| - cos x / |x|) / |x|; without the second part where |x| counts as the floor."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, targets: Tensor, floor: float) -> Tensor:
        lengths = torch.linalg.vector_norm(rows, dim=1)
        divisors = lengths.clamp_min(floor)
        products = torch.linalg.vector_norm(targets, dim=1).clamp_min_(floor).mul_(divisors)
        with exact_products(rows.device):
            cosines = torch.linalg.vecdot(rows, targets).div_(products)
        ctx.save_for_backward(rows, targets, products, cosines * (lengths >= floor) / divisors.square_())
        return cosines.mean()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None, None]:
        rows, targets, products, shares = ctx.saved_tensors
        each = gradient / len(rows)
        return (targets * (each / products)[:, None]).addcmul_(rows, (-each * shares)[:, None]), None, None


class _LogSumExp(Function):
    """Keeps the sums alone; the backward computes each piece of the scores again."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, candidates: Tensor, temperature: float, own: int | None) -> Tensor:
        ctx.temperature, ctx.own = temperature, own
        found = queries.new_empty(len(queries))
        for part, scores in _scores(queries, candidates, temperature, own):
            found[part] = scores.logsumexp(1)
        ctx.save_for_backward(queries, candidates, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        queries, candidates, found = ctx.saved_tensors
        slopes = (grads[0] / ctx.temperature)[:, None]  # (n, 1)
        of_queries = torch.empty_like(queries) if ctx.needs_input_grad[0] else None
        of_candidates = torch.zeros_like(candidates) if ctx.needs_input_grad[1] else None
        for part, scores in _scores(queries, candidates, ctx.temperature, ctx.own):
            shares = scores.sub_(found[part, None]).exp_().mul_(slopes[part])
            with exact_products(queries.device):
                if of_queries is not None:
                    of_queries[part] = shares @ candidates
                if of_candidates is not None:
                    of_candidates.addmm_(shares.T, queries[part])
        return of_queries, of_candidates, None, None


def _scores(queries: Tensor, candidates: Tensor, temperature: float, own: int | None) -> Iterator[tuple[slice, Tensor]]:
    """Yield some queries and their scores, (m, N), which the caller may overwrite."""
    each = candidates.shape[0] * queries.element_size()
    for part in pieces(len(queries), each, queries.device, least=32, caches=4):
        with exact_products(queries.device):
            scores = (queries[part] / temperature) @ candidates.T
        if own is not None:
            scores.diagonal(own + part.start).fill_(-torch.inf)
        yield part, scores
