"""Common parts of the studies of Barlow Twins: their two sizes, and the columns read from each run."""

from collections.abc import Mapping, Sequence
from typing import Any

from gemel.studies.base import Column, Scale, Variation, score

_SMALL = {
    "images": "digits",
    "image_size": 8,
    "threads": 1,
    "workers": 0,
    "epochs": 16,
    "method": "barlow_twins",
    # the mean over all positions: a network that keeps positions apart is good on digits before it is trained
    "backbone": {"name": "convnet", "widths": [16, 32], "strides": [2, 2], "pool": 1},
}
_FULL = {"images": "cifar10", "method": "barlow_twins/cifar10", "epochs": 200}

COLUMNS = (
    Column("k-NN", score("knn", "top1")),
    Column("linear", score("linear-cached", "top1")),
    Column("k-means ACC", score("cluster", "kmeans_acc")),
)
EVALUATIONS = (("linear-cached", {}),)


def small(variations: Sequence[Variation], **settings: Any) -> Scale:
    """Return the size of minutes: digits, 20 seconds for each run."""
    return Scale(_SMALL | settings, variations)


def full(variations: Sequence[Variation], **settings: Any) -> Scale:
    """Return the full size: ResNet-18 on CIFAR-10 with solo-learn's settings, a fifth of their epochs."""
    return Scale(_FULL | settings, variations)


def options(named: Mapping[str, Mapping[str, Any]]) -> list[Variation]:
    """Return a variation for each name, with these options of the method."""
    return [Variation(name, {f"method.{key}": value for key, value in given.items()}) for name, given in named.items()]
