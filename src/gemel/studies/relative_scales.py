"""Common parts of the studies of several methods: their two sizes, and lines of one plot."""

from collections.abc import Mapping, Sequence
from typing import Any

from gemel.studies.barlow_scales import COLUMNS, EVALUATIONS
from gemel.studies.base import Scale, Variation

__all__ = ["COLUMNS", "EVALUATIONS", "LINES", "full", "full_of", "named", "small"]

LINES: Mapping[str, str] = {
    "Barlow Twins": "barlow_twins",
    "SimCLR": "simclr",
    "BYOL": "byol",
    "MoCo v2": "moco_v2",
}
"""methods by their line of a plot"""

_SMALL = {
    "images": "digits",
    "image_size": 8,
    "threads": 1,
    "workers": 0,
    "epochs": 16,
    "backbone": {"name": "convnet", "widths": [16, 32], "strides": [2, 2], "pool": 1},
}
_FULL = {"images": "cifar10", "epochs": 200}


def small(variations: Sequence[Variation], **settings: Any) -> Scale:
    """Return the size of minutes: digits; the variations name their methods."""
    return Scale(_SMALL | settings, variations)


def full(variations: Sequence[Variation], **settings: Any) -> Scale:
    """Return the full size: CIFAR-10, a fifth of the epochs of solo-learn's settings, which the variations name."""
    return Scale(_FULL | settings, variations)


def full_of(method: str) -> str:
    """Return solo-learn's recipe of a method for CIFAR-10."""
    return f"{method}/cifar10"


def named(name: str, method: str, options: Mapping[str, Any], line: str = "", x: float | None = None) -> Variation:
    """Return a variation of a method, with these options of it."""
    return Variation(name, {"method": method, **{f"method.{key}": value for key, value in options.items()}}, line, x)
