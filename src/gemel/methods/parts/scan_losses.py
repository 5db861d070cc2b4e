"""SCAN's losses: an image and its neighbour in one class, then labels from the certain images."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gemel.distributed import mean_over_processes
from gemel.methods.parts.cross_correlation import check_pair
from gemel.methods.parts.information import entropy
from gemel.methods.parts.precision import exact_products, pieces, widened

FLOOR = 1e-8
"""least mean probability of a class in the entropy"""

LONGEST = 100.0
"""largest -log of an agreement"""

IGNORED = -100
"""label of an image that is not kept: no device has to wait for how many are"""


def scan_loss(anchors: Tensor, neighbours: Tensor, *, entropy_weight: float = 5.0) -> dict[str, Tensor]:
    r"""Return L = -1/n Σ_i log<p_i, q_i> - λ H(p̄), p and q the softmaxes, p̄ the anchors' mean over the global batch.

    -log is at most 100, and p̄ at least 1e-8 in both factors of the entropy; what is cut takes no gradient. (In the
    released code an agreement below 1e-12 takes nearly none: torch's binary cross-entropy bounds its denominator.)
    Source: arXiv 2005.12320 and its released code.

    Args:
        anchors: logits of the images, (n, C), this process's rows.
        neighbours: logits of a neighbour of each, (n, C).
        entropy_weight: λ.

    Returns:
        loss = consistency - λ entropy; consistency, at least 0; entropy, at most log C.

    Raises:
        ValueError: the shapes differ or are not (n, C).
    """
    check_pair(anchors, neighbours)
    with exact_products(anchors.device):
        p, q = widened(anchors).softmax(1), widened(neighbours).softmax(1)
        consistency = mean_over_processes(_disagreement((p * q).sum(1)).mean())
        diversity = _bounded_entropy(mean_over_processes(p.mean(0)))
    loss = consistency - entropy_weight * diversity
    return {"loss": loss, "consistency": consistency, "entropy": diversity}


def _disagreement(agreement: Tensor) -> Tensor:
    """Return -log of agreements, at most 100; no gradient where it is cut."""
    some = agreement > 0
    lost = -agreement.where(some, torch.ones_like(agreement)).log()
    return lost.clamp_max(LONGEST).where(some, torch.full_like(lost, LONGEST))


def _bounded_entropy(p: Tensor) -> Tensor:
    p = p.clamp_min(FLOOR)
    return entropy(p, p.log())


def scan_self_labeling_loss(
    weak: Tensor, strong: Tensor, *, threshold: float = 0.99, balanced: bool = True
) -> dict[str, Tensor]:
    r"""Return L = Σ_i w_{ŷ_i} (-log softmax(strong_i)_{ŷ_i}) / Σ_i w_{ŷ_i} over images with max softmax(weak) > t.

    ŷ is the class of the weak view, which takes no gradient. Balanced: w_c = n / n_c, so that L is the mean over the
    classes that were found of the mean over a class's images; else w = 1. Over the global batch; with no such image the
    loss is 0 and its gradient zeros, where the released code stops with an error.

    Args:
        weak: logits of the plain views, (n, C), this process's rows.
        strong: logits of the strong views, (n, C).
        threshold: t, strict.
        balanced: weights by class.

    Returns:
        loss; kept, the share of images that label themselves.

    Raises:
        ValueError: the shapes differ or are not (n, C).
    """
    check_pair(weak, strong)
    with exact_products(strong.device):
        with torch.no_grad():
            certainty, labels = widened(weak).softmax(1).max(1)
            kept = certainty > threshold
            taken = torch.zeros(weak.shape[1], dtype=certainty.dtype, device=weak.device)
            counts = mean_over_processes(taken.index_add(0, labels, kept.to(certainty.dtype)))  # (C,), by W
            weights = (counts.sum() / counts).where(counts > 0, taken) if balanced else torch.ones_like(counts)
            whole = (weights * counts).sum()
            labels = labels.masked_fill(~kept, IGNORED)
        lost = cross_entropy(widened(strong), labels, weights, ignore_index=IGNORED, reduction="sum")
        loss = mean_over_processes(lost) / whole.where(whole > 0, torch.ones_like(whole))
        return {"loss": loss, "kept": mean_over_processes(kept.to(loss.dtype).mean())}


class Choice(NamedTuple):
    """How good several heads are, without labels: (H,) each."""

    consistency: Tensor
    entropy: Tensor
    total: Tensor
    """consistency - entropy; the head where it is lowest is the best"""


def compare_heads(probabilities: Tensor, neighbours: Tensor) -> Choice:
    """Return SCAN's loss of each head over all images, with λ = 1 and all the neighbours.

    Args:
        probabilities: (H, N, C) of all images.
        neighbours: (N, k), rows; the released code has the image itself and its five nearest.
    """
    rows: list[Tensor] = []
    for p in probabilities:
        total = p.new_zeros((), dtype=torch.float64)
        for part in pieces(len(p), p.element_size() * p.shape[1] * neighbours.shape[1], p.device):
            agreement = torch.einsum("nc,nkc->nk", p[part], p[neighbours[part]])
            total += _disagreement(agreement).double().sum()
        rows.append(torch.stack([total / neighbours.numel(), _bounded_entropy(p.mean(0)).double()]))
    consistency, diversity = torch.stack(rows).unbind(1)
    return Choice(consistency, diversity, consistency - diversity)
