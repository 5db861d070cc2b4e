"""The swapped prediction of SwAV and DINO: each view predicts the soft assignments of the other global views."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gemel.methods.parts.precision import widened


def swapped_cross_entropy(targets: Sequence[Tensor], logits: Sequence[Tensor], temperature: float) -> Tensor:
    r"""Return 1/(2(V-1)) Σ_{i<2} Σ_{j≠i} 1/n Σ_r -<T_i, log softmax(s_j / τ)>, over this process's rows.

    The sum over i is linear in the targets: each view's logits are looked at once.

    Args:
        targets: T_0 and T_1, (n, K), rows of sum 1; without gradient.
        logits: s of V >= 2 views, (n, K) each, the two global views first.
        temperature: τ.
    """
    both = targets[0] + targets[1]
    terms: list[Tensor] = []
    for view, rows in enumerate(logits):
        scores = widened(rows) / temperature
        target, weight = (targets[1 - view], 1) if view < 2 else (both, 2)
        terms.append(weight * scores.logsumexp(1).mean() - (target * scores).sum(1).mean())
    return torch.stack(terms).sum() / (2 * (len(logits) - 1))


def check_views(logits: Sequence[Tensor], targets: Sequence[Tensor]) -> None:
    """Raise ValueError unless there are two targets and at least two views, matrices (n, K) of one shape."""
    shapes = sorted({tuple(one.shape) for one in (*logits, *targets)})
    if len(targets) != 2 or len(logits) < 2 or len(shapes) != 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"two targets and two or more views, matrices (n, K) of one shape, are needed, not {len(targets)} and "
            f"{len(logits)} of {shapes}"
        )
