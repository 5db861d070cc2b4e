"""What the studies of Barlow Twins share: their two sizes, what is read from a run, the paper's tables."""

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
    # the mean over all places: a network that keeps places apart is good on digits before it has learned anything
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
    """Digits, 20 seconds a run."""
    return Scale(_SMALL | settings, variations)


def full(variations: Sequence[Variation], **settings: Any) -> Scale:
    """ResNet-18 on CIFAR-10 with solo-learn's settings, a fifth of their epochs."""
    return Scale(_FULL | settings, variations)


def options(named: Mapping[str, Mapping[str, Any]]) -> list[Variation]:
    """A variation for each name, with these options of the method."""
    return [Variation(name, {f"method.{key}": value for key, value in given.items()}) for name, given in named.items()]
