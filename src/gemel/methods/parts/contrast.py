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

    The gradient of the queries is made in the same pass, some candidates at a time: it costs no second look at them.

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
    """Beside the sums it keeps each query's mean candidate, by softmax, which is its gradient.

    Only the gradient of candidates computes the scores again.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, candidates: Tensor, temperature: float, own: int | None) -> Tensor:
        ctx.temperature, ctx.own = temperature, own
        found = queries.new_empty(len(queries))
        means = torch.empty_like(queries) if ctx.needs_input_grad[0] else None
        for part in _of_queries(queries, candidates):
            mean, rest = None if means is None else means[part], None if own is None else own + part.start
            found[part] = _reduced(queries[part] / temperature, candidates, rest, mean)
        ctx.save_for_backward(queries, candidates, found, means)
        return found

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        queries, candidates, found, means = ctx.saved_tensors
        slopes = (grads[0] / ctx.temperature)[:, None]  # (n, 1)
        of_queries = None if means is None else means * slopes
        if not ctx.needs_input_grad[1]:
            return of_queries, None, None, None
        of_candidates = torch.zeros_like(candidates)
        for part in _of_queries(queries, candidates):
            rest = None if ctx.own is None else ctx.own + part.start
            for columns, scores in _scores(queries[part] / ctx.temperature, candidates, rest):
                shares = scores.sub_(found[part, None]).exp_().mul_(slopes[part])
                with exact_products(queries.device):
                    of_candidates[columns].addmm_(shares.T, queries[part])
        return of_queries, of_candidates, None, None


def _reduced(queries: Tensor, candidates: Tensor, own: int | None, mean: Tensor | None) -> Tensor:
    """Return log Σ_j exp(<q_i, k_j>), and write Σ_j k_j exp(<q_i, k_j>) over that sum into `mean`.

    Sums so far are relative to each query's largest score so far.
    """
    largest = queries.new_full((len(queries),), torch.finfo(queries.dtype).min)
    total = torch.zeros_like(largest)
    if mean is not None:
        mean.zero_()
    for columns, scores in _scores(queries, candidates, own):
        higher = torch.maximum(largest, scores.amax(1))
        shrunk = largest.sub_(higher).exp_()
        shares = scores.sub_(higher[:, None]).exp_()
        total.mul_(shrunk).add_(shares.sum(1))
        if mean is not None:
            with exact_products(queries.device):
                mean.mul_(shrunk[:, None]).addmm_(shares, candidates[columns])
        largest = higher
    if mean is not None:
        mean.div_(total.clamp_min(torch.finfo(total.dtype).tiny)[:, None])  # 0 where no candidate is left
    return total.log_().add_(largest)


def _of_queries(queries: Tensor, candidates: Tensor) -> Iterator[slice]:
    return pieces(len(queries), candidates.shape[0] * queries.element_size(), queries.device, least=256, caches=4)


def _scores(queries: Tensor, candidates: Tensor, own: int | None) -> Iterator[tuple[slice, Tensor]]:
    """Yield some candidates and their scores, (n, m), which the caller may overwrite."""
    each = len(queries) * queries.element_size()
    for columns in pieces(len(candidates), each, queries.device, least=256, caches=4):
        with exact_products(queries.device):
            scores = queries @ candidates[columns].T
        if own is not None:
            scores.diagonal(own - columns.start).fill_(-torch.inf)
        yield columns, scores
