"""Accuracy of classifiers; images whose label is -1 (unknown) are left out."""

import torch
from torch import Tensor

from gemel.errors import UserError


def topk_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Share of images whose label is among the k classes of highest score.

    Of equal scores the lower class goes first, so constant scores do not look like success. A NaN is never right.

    Args:
        scores: (N, C), logits or probabilities.
        labels: (N,) in 0..C-1, or -1.
        k: 1..C.

    Raises:
        UserError: shapes that do not fit, k or a label out of range, no known label.

    >>> scores = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    >>> topk_accuracy(scores, torch.tensor([1, 2]), 1), topk_accuracy(scores, torch.tensor([1, 2]), 2)
    (0.5, 1.0)
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise UserError(f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)}; give (N, C) and (N,)")
    if not 1 <= k <= scores.shape[1]:
        raise UserError(f"top-{k} of {scores.shape[1]} classes; k is 1 to the number of classes")
    known = labels >= 0
    scores, labels = scores[known], labels[known]
    if not len(labels) or labels.max() >= scores.shape[1]:
        raise UserError(f"labels must be 0 to {scores.shape[1] - 1}, or -1 for unknown; at least one must be known")
    return (label_rank(scores, labels) < k).double().mean().item()


def label_rank(scores: Tensor, labels: Tensor) -> Tensor:
    """How many classes go before the label's, (N,): 0 where it is the first; C where its score is NaN.

    Of equal scores the lower class goes first.

    Args:
        scores: (N, C).
        labels: (N,) in 0..C-1.

    >>> label_rank(torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.5, 0.5]]), torch.tensor([2, 1])).tolist()
    [1, 1]
    """
    own = scores.gather(1, labels[:, None].long())  # (N, 1)
    lower = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]  # (N, C)
    rank = ((scores > own) | ((scores == own) & lower)).sum(dim=1)
    return rank.masked_fill(own[:, 0].isnan(), scores.shape[1])


def per_class_accuracy(predicted: Tensor, labels: Tensor) -> dict[int, float]:
    """For each label that occurs, the share of its images that were predicted so.

    Args:
        predicted: (N,) integers.
        labels: (N,) integers; -1 is unknown.

    Raises:
        UserError: lengths that differ, or no known label.

    >>> per_class_accuracy(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1]))
    {0: 0.6666666666666666, 1: 1.0}
    """
    if predicted.shape != labels.shape or labels.ndim != 1:
        raise UserError(f"{tuple(predicted.shape)} predictions for {tuple(labels.shape)} labels; give (N,) of both")
    known = labels >= 0
    if not known.any():
        raise UserError(f"none of {len(labels)} images has a label (-1 means unknown); accuracy needs at least one")
    names, label_of = labels[known].unique(return_inverse=True)
    right = (predicted[known] == labels[known]).double()
    hits = torch.zeros(len(names), dtype=right.dtype, device=right.device).index_add_(0, label_of, right)
    return dict(zip(names.tolist(), (hits / label_of.bincount()).tolist(), strict=True))


def mean_per_class_accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Mean of `per_class_accuracy`: small classes weigh as much as large ones.

    >>> mean_per_class_accuracy(torch.zeros(10), torch.tensor([0] * 8 + [1] * 2))
    0.5
    """
    shares = per_class_accuracy(predicted, labels).values()
    return sum(shares) / len(shares)
