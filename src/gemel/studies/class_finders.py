"""Common parts of the studies of methods that find classes: the methods, and the columns read from each run."""

from collections.abc import Mapping
from typing import Any

from gemel.studies.base import Column, Variation, classes_used, score, score_of, seconds

FINDERS: Mapping[str, Mapping[str, Any]] = {
    "twist": {},
    "bridle": {"method.norm": True},
    "iic": {},
    "imsat": {},
    "scan": {},
    "self-classifier": {},
    "sela": {},
    "deepcluster": {},
    "deepcluster-v2": {},
}
"""options of each beside its recipe for small images; Bridle's classes collapse to one without a batch norm"""

PIXELS = ("cluster", {"network": "pixels"})
"""k-means on the pixels, which a method should beat"""

REMARKS: Mapping[str, str] = {
    "bridle": "looks at one image at a time; any sharp and even division is as good to it, also one that parts "
    "neighbours",
    "iic": "ends in poorer optima of its own loss than the labels are: classes merge kinds early and stay so",
    "sela": "its labels are its own predictions, spread evenly; on features that stay, a linear head keeps about those "
    "that it began with",
}
"""why heads on frozen features of a method agree less than k-means does, on digits, letters or MNIST"""

COLUMNS = (
    *(Column(name, score("cluster", name.lower())) for name in ("ACC", "NMI", "ARI", "AMI")),
    Column("classes", classes_used()),
    Column("features' k-means ACC", score("cluster", "kmeans_acc")),
    Column("pixels' k-means ACC", score_of("pixels", "cluster", "kmeans_acc")),
    Column("seconds", seconds, plotted=False),
)


def variations(recipe: str = "", remarks: Mapping[str, str] | None = None) -> list[Variation]:
    """Return one variation a method, by its recipe for small images or another."""
    return [
        Variation(
            name,
            {"method": name.replace("-", "_") + (f"/{recipe}" if recipe else ""), **options},
            remark=(remarks or {}).get(name, ""),
        )
        for name, options in FINDERS.items()
    ]
