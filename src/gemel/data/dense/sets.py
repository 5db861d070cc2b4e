"""Which sets of boxes, masks and label maps there are, and what is known of them without their files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gemel.data.dense.label_maps import LabelMaps
from gemel.data.dense.objects import Objects


class ObjectSet(NamedTuple):
    """Images with objects, to learn from and to be judged by."""

    described: "DescribedSet"
    train: Objects
    judged: Objects


class LabelSet(NamedTuple):
    """Images with label maps, to learn from and to be judged by."""

    described: "DescribedSet"
    train: LabelMaps
    judged: LabelMaps


@dataclass(frozen=True)
class DescribedSet:
    """What is known of a set without its files.

    Args:
        name: as --data takes it.
        title: as the tables print it.
        task: what it can be used for.
        layout: the files that must be there.
        origin: where to get them.
        counts: images to learn from and to be judged by in the whole set, as published.
        read: finds the files below a folder; `digit-scenes` needs none, and is drawn by a seed.
        metric: how it is judged.
    """

    name: str
    title: str
    task: Literal["detection", "segmentation"]
    layout: str
    origin: str
    counts: tuple[int, int]
    read: Callable[["DescribedSet", Path, int], Any]
    metric: Literal["voc", "coco", "miou"]
    needs_root: bool = True
