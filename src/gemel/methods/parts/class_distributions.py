"""TWIST's statistics of class distributions: each view's softmax and logarithm once.

With P the probabilities and ℓ = log(P + ε), a pair's symmetric divergence is Σ (P_i - P_j)(ℓ_i - ℓ_j). The sum over the
pairs (global, later view) of two global and L local views needs no pair but the first: with the globals' means P̃, ℓ̃

    (1 + L/2) (P_0 - P_1)(ℓ_0 - ℓ_1) + 2 Σ_{j≥2} (P̃ - P_j)(ℓ̃ - ℓ_j)

Rows are taken in pieces that a cache holds: P and ℓ, kept for the backward, and the gradient alone are as large as
the logits. Several heads are one array (B, H, C) in all of this: a head is a second kind of row.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from gemel.methods.parts.precision import pieces, widened

_NONE = (0.0, 0.0)


class Statistics(NamedTuple):
    """Means over this process's rows, in float32 (float64 for float64 logits); of each head where there are several."""

    consistency: Tensor
    """() or (H,): mean over rows and pairs of the divergence"""
    sharpness: Tensor
    """() or (H,): mean entropy of a row, the views weighted as they occur in the pairs"""
    means: Tensor
    """mean over rows of each view's probabilities, (V, C) or (V, H, C)"""


def statistics(
    views: Sequence[Tensor], *, temperature: float, epsilon: float, teacher: Sequence[Tensor] | None = None
) -> Statistics:
    """Return consistency, sharpness and mean distributions of logits, V of (B, C) or (B, H, C), global views first.

    Args:
        views: logits; without a teacher the divergence takes no temperature.
        temperature: τ.
        epsilon: ε; 0 means log-softmax.
        teacher: logits of the two global views, in the same shape, which take no gradient; the divergence is then that
            of each student's view from each teacher's other view.
    """
    fixed = None if teacher is None else torch.stack([logits.detach() for logits in teacher])
    back = torch.is_grad_enabled() and any(view.requires_grad for view in views)
    found = _Statistics.apply(fixed, temperature, epsilon, back, *views)
    return Statistics(*cast(tuple[Tensor, Tensor, Tensor], found))


def view_weights(count: int, teacher: bool) -> list[float]:
    """Return the weights of the views in sharpness and diversity; they sum to 1.

    >>> view_weights(14, teacher=False)[1:3]
    [0.26, 0.04]
    """
    if teacher:
        return [1 / count] * count
    pairs = 2 * count - 3
    return [(count - 1) / (2 * pairs)] * 2 + [1 / pairs] * (count - 2)


def on_device(of_views: Sequence[float], like: Tensor) -> Tensor:
    """Return numbers of which the global views share one and the local ones another, (V,), beside `like`.

    They are filled in by kernels: copying a list to a GPU would wait for everything before it.
    """
    found = like.new_full((len(of_views),), of_views[-1])
    found[:2].fill_(of_views[0])
    return found


class _Statistics(Function):
    @staticmethod
    def forward(
        ctx: Any, teacher: Tensor | None, temperature: float, epsilon: float, back: bool, *views: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.temperature, ctx.epsilon = temperature, epsilon
        weights = view_weights(len(views), teacher is not None)
        rows, *heads, classes = views[0].shape
        example, size = widened(views[0][:0]), 4 * len(views) * math.prod(heads) * classes
        consistency, sharpness, means = (
            example.new_zeros(shape) for shape in (heads, heads, (len(views), *heads, classes))
        )
        dot = partial(_dot, heads=len(heads))
        kept: list[Tensor] = []  # of each piece: a softmax or a logarithm takes as long as five sums or ten
        parts = list(pieces(rows, size, views[0].device, caches=2))
        for part in parts:
            z = [logits[part] for logits in views]  # V of (k, C)
            if teacher is None:
                p, log_p = _softmax(z, 1.0, epsilon)
                consistency += _pair_divergences(p, log_p, dot)
                if temperature != 1:
                    p, log_p = _softmax(z, temperature, epsilon)
            else:
                p, log_p = _softmax(z, temperature, epsilon)
                target, log_target = _softmax(teacher[:, part].unbind(), temperature, epsilon)
                of_globals, of_locals = _partners(target, target.new_ones(()))
                consistency += (len(views) - 1) * dot(target, log_target)
                consistency -= dot(of_globals, log_p[:2]) + dot(of_locals, log_p[2:].sum(0))
            for seen, weight in zip(_globals_and_locals(p), (weights[0], weights[-1]), strict=False):
                sharpness -= weight * dot(p[seen], log_p[seen])
            means += p.sum(1)
            kept += (p, log_p) if back else ()
        ctx.one_softmax = teacher is not None or temperature == 1  # else the divergence has its own, without τ
        ctx.count, ctx.dtype, ctx.parts = len(views), views[0].dtype, parts
        ctx.save_for_backward(teacher, *kept, *(() if ctx.one_softmax else views))
        return consistency * _pair_weight(len(views), rows, teacher), sharpness / rows, means / rows

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        teacher, *rest = ctx.saved_tensors
        kept, views = rest[: 2 * len(ctx.parts)], rest[2 * len(ctx.parts) :]
        temperature, epsilon, count, rows = ctx.temperature, ctx.epsilon, ctx.count, ctx.parts[-1].stop
        to_pairs = grads[0] * _pair_weight(count, rows, teacher)
        shares = on_device(view_weights(count, teacher is not None), grads[1])
        to_entropy, to_means = _by_view(shares, -grads[1] / rows), grads[2][:, None] / rows  # (V, 1, [H,] 1 or C)
        to_own = _by_view(on_device([count - 1.0] * 2 + [2.0] * (count - 2), shares), to_pairs)
        to_pairs = to_pairs[..., None]  # ([H,] 1)
        found = [kept[0].new_empty((rows, *kept[0].shape[2:]), dtype=ctx.dtype) for _ in range(count)]
        for part, p, log_p in zip(ctx.parts, kept[::2], kept[1::2], strict=True):  # (V, k, [H,] C)
            own, by_p, by_log = to_entropy, _NONE, _NONE
            into = [gradient[part] for gradient in found]
            if teacher is not None:
                target, _ = _softmax(teacher[:, part].unbind(), temperature, epsilon)
                by_log = _partners(target, -to_pairs)
            elif ctx.one_softmax:
                own = to_entropy + to_own
                by_p, by_log = _partners(log_p, -to_pairs), _partners(p, -to_pairs)
            if ctx.one_softmax:
                _through_softmax(p, log_p, own, to_means, by_p, by_log, temperature, epsilon, into)
                continue
            of_entropies, of_pairs = torch.empty_like(p), torch.empty_like(p)
            _through_softmax(p, log_p, own, to_means, by_p, by_log, temperature, epsilon, of_entropies.unbind())
            p, log_p = _softmax([view[part] for view in views], 1.0, epsilon)
            by_p, by_log = _partners(log_p, -to_pairs), _partners(p, -to_pairs)
            nothing = torch.zeros_like(to_means)
            _through_softmax(p, log_p, to_own, nothing, by_p, by_log, 1.0, epsilon, of_pairs.unbind())
            for gradient, slope in zip(into, of_entropies.add_(of_pairs), strict=True):
                gradient.copy_(slope)
        return (None, None, None, None, *found)


def _by_view(shares: Tensor, gradient: Tensor) -> Tensor:
    """Return shares (V,) of a gradient () or (H,), as factors of (V, k, C) or (V, k, H, C)."""
    return (shares.view(-1, *[1] * gradient.ndim) * gradient)[:, None, ..., None]


def _pair_weight(count: int, rows: int, teacher: Tensor | None) -> float:
    """Return the weight of a pair: half a symmetric divergence of 2V - 3, or one of a teacher's 2 (V - 1)."""
    return 0.5 / (rows * (2 * count - 3 if teacher is None else count - 1))


def _softmax(logits: Sequence[Tensor], temperature: float, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return probabilities and the logarithm of probabilities + ε, (V, k, [H,] C) each, of V times (k, [H,] C)."""
    found = widened(logits[0][:0]).new_empty((len(logits), *logits[0].shape))
    for view, z in zip(found, logits, strict=True):  # one after the other: no copy to make them one
        z = widened(z) if temperature == 1 else widened(z) / temperature
        (torch.softmax if epsilon else torch.log_softmax)(z, -1, out=view)
    return (found, (found + epsilon).log_()) if epsilon else (found.exp(), found)


def _pair_divergences(p: Tensor, log_p: Tensor, dot: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the sum over rows and pairs of Σ_c (P_i - P_j)(ℓ_i - ℓ_j), of each head."""
    between_globals = (1 + (len(p) - 2) / 2) * dot(p[0] - p[1], log_p[0] - log_p[1])
    if len(p) == 2:
        return between_globals
    return between_globals + 2 * dot(p[2:] - p[:2].mean(0), log_p[2:] - log_p[:2].mean(0))


def _partners(of: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums over a view's partners in the pairs: of the two global views, (2, k, C), and of any local one.

    Args:
        of: P or ℓ of all views, (V, k, C); or of a teacher's two, which are nobody's own.
        weight: of a pair.
    """
    swapped, both = of[:2].flip(0), of[:2].sum(0)
    return weight * (swapped + of[2:].sum(0) if len(of) > 2 else swapped), weight * both


def _globals_and_locals(of: Tensor) -> list[slice]:
    """Return where the global views stand and, if there are any, the local ones."""
    return [slice(2), slice(2, None)][: 1 if len(of) == 2 else 2]


def _through_softmax(
    p: Tensor,
    log_p: Tensor,
    own: Tensor,
    to_means: Tensor,
    by_p: tuple[Tensor | float, Tensor | float],
    by_log: tuple[Tensor | float, Tensor | float],
    temperature: float,
    epsilon: float,
    into: Sequence[Tensor],
) -> None:
    """Write the gradient by the logits, V of (k, C), of slopes own ℓ + to_means + by_p by P and own P + by_log by ℓ.

    With s = own ℓ + to_means + by_p + (own P + by_log) / (P + ε) it is P (s - Σ_c P s). A constant of a row falls out
    of it, and own P / (P + ε) is one but for own ε / (P + ε). `own` is alike for all global and for all local views;
    `into` is of any precision.
    """
    room = torch.empty_like(p[: max(2, len(p) - 2)])
    for views, of_p, of_log in zip(_globals_and_locals(p), by_p, by_log, strict=False):
        q, share = p[views], own[views][:1]
        slope = room[: len(q)]
        slope.copy_(to_means[views]).add_(of_p).addcmul_(log_p[views], share)
        if epsilon == 0:
            slope.mul_(q).add_(of_log)  # P dℓ/dP = 1 also where P is 0
        else:
            slope.addcdiv_(of_log - share * epsilon, q + epsilon).mul_(q)
        if temperature != 1:
            slope /= temperature
        for one, gradient, weight in zip(slope, into[views], q, strict=True):
            torch.addcmul(one, weight, one.sum(-1, keepdim=True), value=-1, out=gradient)


def _dot(one: Tensor, two: Tensor, *, heads: int) -> Tensor:
    """Return the products of ([V,] k[, H], C) summed, of each head where `heads` is 1."""
    # row by row, then pairwise: one BLAS product of 50,000 equal numbers is off by 2e-5 in float32
    products = torch.linalg.vecdot(one, two)  # ([V,] k[, H])
    return products.sum(tuple(range(products.ndim - heads)))
