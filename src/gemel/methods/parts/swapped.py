"""The swapped prediction of SwAV and DINO: each view predicts the soft assignments of the other global views."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from gemel.methods.parts.precision import widened


def swapped_cross_entropy(targets: Sequence[Tensor], logits: Sequence[Tensor], temperature: float) -> Tensor:
    r"""Return 1/(2(V-1)) Σ_{i<2} Σ_{j≠i} 1/n Σ_r -<T_i, log softmax(s_j / τ)>, over this process's rows.

    The sum over i is linear in the targets: each view's logits are looked at once.

    Args:
        targets: T_0 and T_1, (n, K), rows of sum 1; without gradient.
        logits: s of V >= 2 views, (n, K) each, the two global views first.
        temperature: τ.
    """
    both = targets[0] + targets[1] if len(logits) > 2 else targets[0]
    terms: list[Tensor] = []
    for view, rows in enumerate(logits):
        target, weight = (targets[1 - view], 1) if view < 2 else (both, 2)
        terms.append(cast(Tensor, _CrossEntropy.apply(rows, target, weight, temperature)))
    return torch.stack(terms).sum() / (2 * (len(logits) - 1))


class _CrossEntropy(Function):
    """1/n Σ_r w log Σ_k exp(s_rk / τ) - <T_r, s_r> / τ, whose gradient (w softmax(s / τ) - T) / (n τ) is one array."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, weight: int, temperature: float) -> Tensor:
        scores = widened(logits) / temperature
        largest = scores.logsumexp(1)  # log Σ exp
        ctx.weight, ctx.temperature, ctx.dtype = weight, temperature, logits.dtype
        ctx.save_for_backward(scores, largest, target)
        return (weight * largest - torch.linalg.vecdot(target, scores)).mean()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor, None, None, None]:
        scores, largest, target = ctx.saved_tensors
        found = (scores - largest[:, None]).exp_().mul_(ctx.weight).sub_(target)
        return found.mul_(gradient / (len(scores) * ctx.temperature)).to(ctx.dtype), None, None, None


def check_views(logits: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Raise ValueError unless there are two targets and at least two views, matrices (n, K) of one shape."""
    shapes = sorted({tuple(one.shape) for one in (*logits, *targets)})
    if len(targets) != 2 or len(logits) < 2 or len(shapes) != 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"two targets and two or more views, matrices (n, K) of one shape, are needed, not {len(targets)} and "
            f"{len(logits)} of {shapes}"
        )
