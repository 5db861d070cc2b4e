"""Schedules: pure functions of progress in [0, 1], progress = step / steps of the stage."""

from collections.abc import Sequence
from math import cos, pi


def cosine(progress: float, start: float, end: float) -> float:
    """Half a cosine: end + (start - end) · (1 + cos(π · progress)) / 2.

    >>> round(cosine(0.5, 1.0, 0.0), 12)
    0.5
    """
    return end + (start - end) * 0.5 * (1.0 + cos(pi * progress))


def steps(progress: float, milestones: Sequence[float], factor: float) -> float:
    """Stairs: `factor` to the power of the number of milestones reached; milestones are values of progress.

    >>> [steps(p, (0.5, 0.75), 0.5) for p in (0.0, 0.5, 0.75)]
    [1.0, 0.5, 0.25]
    """
    return factor ** sum(progress >= milestone for milestone in milestones)


def warmup_cosine(
    progress: float, *, warmup: float, final: float, start: float = 0.0, peak: float | None = None
) -> float:
    """Factor of the rate: from `start` in a straight line to 1, then half a cosine to `final`.

    The schedule of Barlow Twins, VICReg and TWIST, where start = 0, peak = warmup and final = 0.001.

    Args:
        progress: step / steps, in [0, 1].
        warmup: share of the run that warms up, in [0, 1).
        final: factor at progress 1.
        start: factor at progress 0.
        peak: progress at which the line reaches 1, at most `warmup`; None: `warmup`.

    >>> [round(warmup_cosine(p, warmup=0.5, final=0.0), 6) for p in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if progress >= warmup:
        return cosine((progress - warmup) / (1.0 - warmup), 1.0, final)
    top = warmup if peak is None else peak
    return start + (1.0 - start) * progress / top if progress < top else 1.0
