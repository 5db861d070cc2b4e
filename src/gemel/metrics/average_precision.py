"""Average precision of a ranking, in the two forms that papers call "VOC07 mAP"."""

import torch
from torch import Tensor

from gemel.errors import UserError

TOLERANCE = 1e-9
"""what a recall may miss a threshold by: 0.1 · 3 as a float is above 3 / 10"""


def eleven_point_ap(scores: Tensor, targets: Tensor, *, voc_compat: bool = False) -> float:
    r"""11-point average precision: AP = 1/11 Σ_{m = 0, .1, ..., 1} max_{n: R_n >= m} P_n

    P_n and R_n are precision and recall of the n samples of highest score; of equal scores the earlier sample goes
    first. A threshold that no recall reaches counts 0.

    Args:
        scores: (N,).
        targets: (N,) 1 the class is there, 0 it is not, -1 the sample is left out.
        voc_compat: compare recalls with the floats of linspace(0, 1, 11) as released code does, three of which lie
            above .3, .6 and .7; else with a tolerance of 1e-9.

    Raises:
        UserError: sizes that do not fit, a score that is not a number, no positive sample.

    >>> scores, targets = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]), torch.tensor([1, 0, 1, 0, 1])
    >>> round(eleven_point_ap(scores, targets), 6)
    0.763636
    """
    precision, recall = _curve(scores, targets)
    thresholds = torch.tensor([0.1 * m for m in range(11)], dtype=torch.float64)  # of linspace, bit for bit
    reached = recall[None] >= thresholds[:, None] - (0.0 if voc_compat else TOLERANCE)  # (11, N)
    return float((reached * precision).max(dim=1).values.mean())


def area_ap(scores: Tensor, targets: Tensor) -> float:
    r"""Area under the precision envelope: AP = Σ_n (R_n - R_{n-1}) max_{k >= n} P_k

    As for VOC's SVMs (protocols of VISSL). Arguments and errors as in `eleven_point_ap`.

    >>> scores, targets = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]), torch.tensor([1, 0, 1, 0, 1])
    >>> round(area_ap(scores, targets), 6)
    0.755556
    """
    precision, recall = _curve(scores, targets)
    envelope = precision.flip(0).cummax(0).values.flip(0)
    return float((recall.diff(prepend=torch.zeros(1, dtype=torch.float64)) * envelope).sum())


def _curve(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """P_n and R_n of n = 1..N, float64 on the CPU."""
    if scores.ndim != 1 or scores.shape != targets.shape:
        raise UserError(f"scores {tuple(scores.shape)} and targets {tuple(targets.shape)}; give (N,) of both")
    known = targets >= 0
    ranked, there = scores[known], targets[known].cpu()
    if bool(ranked.isnan().any()):
        raise UserError("a score is not a number; average precision needs an order of the samples")
    if not bool((there == 1).any()):
        raise UserError("no sample holds the class; average precision needs at least one")
    hits = there[ranked.cpu().argsort(descending=True, stable=True)].double().cumsum(0)
    return hits / torch.arange(1, len(hits) + 1), hits / hits[-1]
