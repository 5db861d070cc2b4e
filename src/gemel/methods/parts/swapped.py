"""The swapped prediction of SwAV and DINO: each view predicts the soft assignments of the other global views."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from gemel.methods.parts.precision import pieces, widened


def swapped_cross_entropy(targets: Sequence[Tensor], logits: Sequence[Tensor], temperature: float) -> Tensor:
    r"""Return 1/(2(V-1)) Σ_{i<2} Σ_{j≠i} 1/n Σ_r -<T_i, log softmax(s_j / τ)>, over this process's rows.

    The sum over i is linear in the targets: each view's logits are looked at once.

    Args:
        targets: T_0 and T_1, (n, K), rows of sum 1, in float32 or wider; without gradient.
        logits: s of V >= 2 views, (n, K) each, the two global views first.
        temperature: τ.
    """
    both = targets[0] + targets[1] if len(logits) > 2 else targets[0]
    terms: list[Tensor] = []
    for view, rows in enumerate(logits):
        target, weight = (targets[1 - view], 1) if view < 2 else (both, 2)
        terms.append(cast(Tensor, _CrossEntropy.apply(rows, target, weight, temperature)))
    return torch.stack(terms).sum() / (2 * (len(logits) - 1))


@torch.no_grad()
def shares_and_entropy(logits: Tensor, center: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return softmax((t - c) / τ) of logits t, (n, K), and the mean entropy of its rows, 0..log K."""
    shares = torch.empty_like(logits, dtype=widened(logits).dtype)
    total = shares.new_zeros(())
    for part in _of_rows(shares):
        scores = widened(logits[part]).sub(center).div_(temperature)
        largest = scores.amax(1)
        torch.softmax(scores, 1, out=shares[part])
        total += (largest - shares[part].amax(1).log_()).sub_(torch.linalg.vecdot(shares[part], scores)).sum()
    return shares, total / len(logits)


class _CrossEntropy(Function):
    """1/n Σ_r w log Σ_k exp(s_rk / τ) - <T_r, s_r> / τ, whose gradient is (w softmax(s / τ) - T) / (n τ).

    The gradient is made beside the value, some rows at a time: they are still in the cache. log Σ exp is a row's
    largest score, less the logarithm of its share.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, weight: int, temperature: float) -> Tensor:
        slopes = torch.empty_like(target) if ctx.needs_input_grad[0] else None
        total = target.new_zeros(())
        for part in _of_rows(target):
            scores = widened(logits[part]) / temperature
            largest = scores.amax(1)
            product = torch.linalg.vecdot(target[part], scores)
            shares = torch.softmax(scores, 1, out=None if slopes is None else slopes[part])
            total += (largest - shares.amax(1).log_()).mul_(weight).sub_(product).sum()
            if slopes is not None:
                scale = 1 / (len(target) * temperature)
                shares.mul_(weight * scale).sub_(target[part], alpha=scale)
        ctx.dtype = logits.dtype
        ctx.save_for_backward(slopes)
        return total / len(target)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None, None, None]:
        return (ctx.saved_tensors[0] * gradient).to(ctx.dtype), None, None, None


def _of_rows(matrix: Tensor) -> Iterator[slice]:
    """Yield slices of rows that fit a cache."""
    return pieces(len(matrix), matrix.shape[1] * matrix.element_size(), matrix.device)


def check_views(logits: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Raise ValueError unless there are two targets and at least two views, matrices (n, K) of one shape."""
    shapes = sorted({tuple(one.shape) for one in (*logits, *targets)})
    if len(targets) != 2 or len(logits) < 2 or len(shapes) != 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"two targets and two or more views, matrices (n, K) of one shape, are needed, not {len(targets)} and "
            f"{len(logits)} of {shapes}"
        )
