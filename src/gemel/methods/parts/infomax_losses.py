"""Deep InfoMax's bounds of mutual information, from the scores of pairs of global and local vectors."""

from collections.abc import Callable
from math import log
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from gemel.distributed import gather, mean_over_processes, rank
from gemel.methods.parts.precision import exact_products, widened

Measure = Literal["jsd", "gan", "kl", "rkl", "h2", "w1", "dv", "nce"]

OWN_PLACE = -10.0
"""score that InfoNCE gives the other places of an image's own map"""

_LOG_2 = log(2)

# what a positive and a negative score are worth; the loss is the negatives' mean less the positives'
_POSITIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "gan": lambda u: -softplus(-u),
    "jsd": lambda u: _LOG_2 - softplus(-u),
    "x2": lambda u: u.square(),
    "kl": lambda u: u,
    "rkl": lambda u: -(-u).exp(),
    "dv": lambda u: u,
    "h2": lambda u: 1 - (-u).exp(),
    "w1": lambda u: u,
}
_NEGATIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "gan": lambda u: softplus(-u) + u,
    "jsd": lambda u: softplus(-u) + u - _LOG_2,
    "x2": lambda u: -0.5 * (u.abs() + 1).square(),
    "kl": lambda u: (u - 1).exp(),
    "rkl": lambda u: u - 1,
    "h2": lambda u: u.exp() - 1,
    "w1": lambda u: u,
}


def deep_infomax_loss(local: Tensor, global_: Tensor, *, measure: Measure | Literal["x2"] = "jsd") -> dict[str, Tensor]:
    r"""Return L = E₋ - E₊, which bounds -I, of scores u_ijlm = <global_i,m, local_j,l>.

    E₊ is the mean over i = j, E₋ over i ≠ j of the global batch, and over places l and m:

        jsd   E₋[sp(-u) + u] - log 2 - E₊[log 2 - sp(-u)]       gan   the same without log 2
        kl    E₋[eᵘ⁻¹] - E₊[u]              rkl   E₋[u - 1] + E₊[e⁻ᵘ]
        h2    E₋[eᵘ - 1] - E₊[1 - e⁻ᵘ]      w1    E₋[u] - E₊[u]
        dv    log E₋[eᵘ] - E₊[u]
        nce   mean over i, l, m of -u_iilm + log[e^{u_iilm} + Σ_{j≠i,l'} e^{u_ijl'm} + L e⁻¹⁰]
        x2    E₋[-½ (|u| + 1)²] - E₊[u²], as released: it has no lower bound, and is no measure

    In `nce` the scores of an image's own places are replaced by -10 in the sum. Source: arXiv 1808.06670 and its
    released code, whose `dv` raises: here it is as meant.

    Args:
        local: (n, D, L), L places of each image, this process's rows.
        global_: (n, D, M), M global vectors of each image.
        measure: as above.

    Returns:
        loss = negative - positive; positive, E₊, or for nce the mean score of the pairs; negative.

    Raises:
        ValueError: the shapes don't fit, or the measure is unknown.
    """
    if local.ndim != 3 or local.shape[:2] != global_.shape[:2] or global_.ndim != 3:
        raise ValueError(f"local (n, D, L) and global (n, D, M) are needed, not {local.shape} and {global_.shape}")
    if measure != "nce" and measure not in _POSITIVE:
        raise ValueError(f"the measure {measure!r} is unknown; there are {', '.join([*_POSITIVE, 'nce'])}")
    with exact_products(local.device):
        # own images i against those of all processes, j
        u = torch.einsum("idm,jdl->ijlm", widened(global_), gather(widened(local)))
        own = torch.eye(len(u), dtype=torch.bool, device=u.device)
        own = torch.nn.functional.pad(own, (rank() * len(u), u.shape[1] - (rank() + 1) * len(u)))  # (n, N)
        matched = u.gather(1, _places(u)).squeeze(1)  # (n, L, M)
        positive, negative = _nce(u, matched, own) if measure == "nce" else _bound(u, matched, own, measure)
    return {"loss": negative - positive, "positive": positive, "negative": negative}


def _places(u: Tensor) -> Tensor:
    rows = torch.arange(len(u), device=u.device) + rank() * len(u)
    return rows.view(-1, 1, 1, 1).expand(-1, 1, *u.shape[2:])


def _bound(u: Tensor, matched: Tensor, own: Tensor, measure: str) -> tuple[Tensor, Tensor]:
    positive = mean_over_processes(_POSITIVE[measure](matched).mean())
    others = u.shape[1] - 1
    if measure == "dv":
        scores = u.masked_fill(own[:, :, None, None], -torch.inf)
        sums = gather(scores.flatten().logsumexp(0)[None])  # (W,)
        count = len(u) * others * u[0, 0].numel() * len(sums)
        return positive, sums.logsumexp(0) - log(max(1, count))
    # a score that does not count is 0 before, not after: the exponential of a large one is no number
    worth = _NEGATIVE[measure](u.masked_fill(own[:, :, None, None], 0.0)).masked_fill(own[:, :, None, None], 0.0)
    return positive, mean_over_processes(worth.sum() / (max(1, others) * matched.numel()))


def _nce(u: Tensor, matched: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    others = u.masked_fill(own[:, :, None, None], OWN_PLACE).flatten(1, 2).logsumexp(1)  # (n, M)
    sums = torch.logaddexp(matched, others[:, None])  # (n, L, M)
    positive, negative = mean_over_processes(torch.stack([matched.mean(), sums.mean()]))
    return positive, negative
