"""Sinkhorn's balanced assignment of rows to prototypes, over all processes (SwAV; arXiv 2006.09882)."""

import torch
from torch import Tensor

from gemel.distributed import gather, mean_over_processes, world_size
from gemel.methods.parts.precision import exact_products, widened


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Return codes Q: exp(S / ε), divided in turn by the sums of its columns and by those of its rows.

    Each row sums to 1, and prototypes share the rows about equally. SwAV's released code also multiplies by 1 / K,
    1 / B and B, which cancel.

    Args:
        scores: S, (n, K), this process's rows, of which processes may have different numbers; no gradient is taken.
        epsilon: ε, above 0; smaller: harder codes.
        iterations: at least 1; with many, every prototype has the same sum of codes.

    Returns:
        Codes (n, K) of these rows in float32 or wider, balanced over the rows of all processes.

    Raises:
        ValueError: the scores are not (n, K), or a number is out of range.
    """
    if scores.ndim != 2 or epsilon <= 0 or iterations < 1:
        raise ValueError(
            f"scores (n, K), an epsilon above 0 and at least 1 iteration are needed, not {tuple(scores.shape)}, "
            f"{epsilon} and {iterations}"
        )
    logits = widened(scores) / epsilon
    # Each column less its largest score, then each row less its largest: all sums of the first round are above 0,
    # however far apart the scores are, and what a row has lost falls out when it is divided by its sum.
    own = logits.amax(0) if len(logits) else logits.new_full(logits.shape[1:], -torch.inf)
    codes = logits.sub_(gather(own[None]).amax(0))
    largest = codes.amax(1)
    codes.sub_(largest[:, None]).exp_()
    with exact_products(scores.device):
        by_prototype = largest.exp_() @ codes  # (K,), of the scores as they were
    for step in range(iterations):
        codes.div_(mean_over_processes(codes.sum(0) if step else by_prototype) * world_size())
        codes.div_(codes.sum(1, keepdim=True))
    return codes
