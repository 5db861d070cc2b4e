"""Sinkhorn's balanced assignment of rows to prototypes, over all processes (SwAV; arXiv 2006.09882)."""

from typing import NamedTuple

import torch
from torch import Tensor

from gemel.distributed import gather, mean_over_processes, world_size
from gemel.methods.parts.precision import exact_products, widened

_FOLDED = 4
"""rounds after which the divisors go into the matrix: where no balance exists, each drifts further in every round"""


class Assignment(NamedTuple):
    """A balanced assignment of rows to prototypes."""

    codes: Tensor
    """(n, K), rows of sum 1, in float32 or wider"""
    entropies: Tensor
    """(n,) entropy of each row's codes, 0..log K"""


def sinkhorn(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3, shares: Tensor | None = None) -> Tensor:
    """Return the codes of `assignment`."""
    return assignment(scores, epsilon=epsilon, iterations=iterations, shares=shares).codes


@torch.no_grad()
def assignment(
    scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3, shares: Tensor | None = None
) -> Assignment:
    """Return codes Q: exp(S / ε), divided in turn by the sums of its columns and by those of its rows.

    Each row sums to 1, and prototypes share the rows about equally. SwAV's released code also multiplies by 1 / K,
    1 / B and B, which cancel. The divisors are kept apart, Q = diag(r) exp(S / ε) diag(c): a round reads the matrix
    twice and writes nothing of its size, and the entropy of a row, -Σ_k Q_k (S_k / ε + log r + log c_k), takes no
    logarithm of an entry.

    Args:
        scores: S, (n, K), this process's rows, of which processes may have different numbers; no gradient is taken.
        epsilon: ε, above 0; smaller: harder codes.
        iterations: at least 1; with many, every prototype has the same sum of codes.
        shares: of the rows that each prototype gets, (K,), above 0, of sum 1; None: equal ones.

    Returns:
        Codes of these rows, balanced over the rows of all processes, and their entropies.

    Raises:
        ValueError: the scores are not (n, K), or a number is out of range.
    """
    if scores.ndim != 2 or epsilon <= 0 or iterations < 1:
        raise ValueError(
            f"scores (n, K), an epsilon above 0 and at least 1 iteration are needed, not {tuple(scores.shape)}, "
            f"{epsilon} and {iterations}"
        )
    scores = widened(scores)
    # Each column less its largest score, then each row less its largest: all sums of the first round are above 0,
    # however far apart the scores are, and what a row has lost falls out when it is divided by its sum.
    own = scores.amax(0) if len(scores) else scores.new_full(scores.shape[1:], -torch.inf)
    by_column = -gather(own[None]).amax(0)
    codes = scores + by_column
    by_column, by_row = by_column / epsilon, codes.amax(1) / -epsilon
    torch.add(by_row[:, None], codes, alpha=1 / epsilon, out=codes).exp_()
    with exact_products(scores.device):
        rows = by_row.neg().exp_()  # the first sums are of the scores as they were
        for done in range(1, iterations + 1):
            columns = (mean_over_processes(rows @ codes) * world_size()).reciprocal_()
            columns = columns if shares is None else columns * shares
            rows = (codes @ columns).reciprocal_()
            if done % _FOLDED == 0 or done == iterations:
                codes.mul_(columns).mul_(rows[:, None])
                by_column, by_row, rows = by_column + columns.log(), by_row + rows.log(), torch.ones_like(rows)
        entropies = -(torch.linalg.vecdot(codes, scores) / epsilon + codes @ by_column + by_row)
    return Assignment(codes, entropies.clamp_(min=0))
