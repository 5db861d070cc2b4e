"""Comparability of two results: what differs, and in which words to say so."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gemel.published import Published, form_of
from gemel.reports.seed_groups import Column, Group, rules_of

Kind = Literal["data", "protocol", "network", "epochs", "form", "seeds", "unfinished"]

PROTOCOLS = {"knn": "k-NN", "linear": "linear", "finetune": "fine-tune"}
"""protocols by the published table's word; clustering has none there"""
TRANSFERRED = {"transfer": "linear", "transfer-finetune": "fine-tune"}
"""likewise, of those whose scores name the data set: SET_top1"""
DENSE = {
    "voc0712": "VOC07+12",
    "coco": "COCO",
    "voc2012aug": "VOC",
    "cityscapes": "Cityscapes",
}
"""sets of detection and segmentation by the published table's word"""
PARTS_OF_NETWORKS = {"fpn": "-FPN", "c4": "-C4", "fcn": " FCN-FPN"}
"""what the published table writes behind the backbone"""
ALIASES = {
    "imagenet": "imagenet1k",
    "vitb16": "vitbasepatch16224",
    "vits16": "vitsmallpatch16224",
    "deits16": "deitsmallpatch16224",
    "imagenet1k100labels": "imagenet1k",
    "stanfordcars": "cars",
    "fgvcaircraft": "aircraft",
    "oxfordpets": "pets",
    "inaturalist2018": "inat18",
}
"""one name for what is written in several ways"""


DENSE_METRICS = ("detection", "segmentation")
"""protocols whose settings say whether a printed number is comparable"""


class Mark(NamedTuple):
    """One difference: of which kind, and its two sides in words."""

    kind: Kind
    words: str


def printed_metric(column: Column) -> str:
    """Return a score as the published table names it, without its brackets.

    >>> printed_metric(Column("knn", "top1")), printed_metric(Column("cluster", "kmeans_nmi"))
    ('k-NN top1', 'k-means NMI')
    """
    if column.protocol == "cluster":
        prefix, metric = ("k-means ", column.metric[7:]) if column.metric.startswith("kmeans_") else ("", column.metric)
        return f"{prefix}{metric.upper()}"
    return f"{PROTOCOLS.get(column.protocol, column.protocol)} {column.metric.replace('_', ' ')}"


def printed(column: Column, settings: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return metric and data under which the published table has a score; None: the data's own name.

    >>> printed(Column("transfer", "pets_mean_per_class"), {})
    ('linear mean per class', 'pets')
    >>> printed(Column("semi", "top1"), {"data": "imagenet", "percent": 1.0})
    ('fine-tune top1', 'ImageNet-1k 1% labels')
    """
    protocol, metric, _ = column
    if protocol in TRANSFERRED:
        word = TRANSFERRED[protocol]
        if metric == "average":
            return f"{word} mean", "average of 11"
        name, _, kind = metric.partition("_")
        return f"{word} {'11-point mAP' if kind == 'map11' else kind.replace('_', ' ')}", name
    if column[:2] == ("voc07", "map_area"):
        return "linear SVM mAP", "VOC07"
    if protocol in DENSE_METRICS:
        return _of_dense(protocol, metric), DENSE.get(str(settings.get("data")), str(settings.get("data")))
    if protocol == "semi":
        data = _data_of(settings) or "?"
        whole = "ImageNet-1k" if same("ImageNet-1k", data) else data
        return f"fine-tune {metric.replace('_', ' ')}", f"{whole} {float(settings.get('percent', 100)):g}% labels"
    return printed_metric(column), None


def stands_beside(row: Published, group: Group, column: Column) -> bool:
    """Return whether a printed number of a score's metric is of the same data, or of the same method on any."""
    settings = group.protocols[column]
    _, data = printed(column, settings)
    if column.protocol in DENSE_METRICS:
        like = str(settings.get("comparable", "")).startswith("yes") and row.network.endswith(_part_of(settings))
        return like and data is not None and same(row.data, data)
    if data is not None:
        return same(row.data, data)
    if same(row.data, _judged_on(group, column)):
        return True
    return form_of(row.method, group.method.name) is not None and not row.data.endswith("% labels")  # those are semi's


def bare_metric(row: Published) -> tuple[str, str]:
    """Split a printed metric from what stands in brackets behind it."""
    metric, _, note = row.metric.partition(" (")
    return metric, note.rstrip(")")


def same(one: str, two: str) -> bool:
    """Return whether two names of a dataset or a network mean the same.

    >>> same("ResNet-50", "resnet50"), same("ImageNet-1k val", "imagenet"), same("CIFAR-10", "cifar100")
    (True, True, False)
    """
    return _plain(one) == _plain(two)


def marks_of_published(row: Published, group: Group, column: Column) -> list[Mark]:
    """Return what keeps a printed number from being compared with a group's score."""
    marks: list[Mark] = []
    here = printed(column, group.protocols[column])[1] or _judged_on(group, column)
    if not same(row.data, here):
        marks.append(Mark("data", f"data {row.data}, here {here}"))
    _, note = bare_metric(row)
    if note:
        marks.append(Mark("protocol", f"protocol: {note}"))
    split = str(group.protocols[column].get("split", ""))
    if split and not split.removeprefix("a ").startswith("test set"):
        marks.append(Mark("protocol", f"protocol: published on a test set, here {split}"))
    part = _part_of(group.protocols[column]) if column.protocol in DENSE_METRICS else ""
    if not same(row.network.removesuffix(part), group.network):
        marks.append(Mark("network", f"network {row.network}, here {group.network}"))
    epochs = group.settings.get("epochs")
    if row.epochs is None:
        marks.append(Mark("epochs", "epochs not stated"))
    elif row.epochs != epochs:
        marks.append(Mark("epochs", f"{row.epochs} epochs, here {epochs}"))
    form = form_of(row.method, group.method.name)
    if form:
        marks.append(Mark("form", f"form: {form}"))
    return marks


def marks_of_group(group: Group, first: Group) -> list[Mark]:
    """Return what keeps a group's scores from being compared with those of the first group."""
    marks: list[Mark] = []
    for column in group.scores:
        if column in first.scores:
            own, other = (str(one.protocols[column].get("data", one.settings.get("images"))) for one in (group, first))
            if own != other:
                marks.append(Mark("data", f"data {_judged_on(group, column)}, first row {_judged_on(first, column)}"))
            words = _protocol_difference(group.protocols[column], first.protocols[column])
            if words:
                marks.append(Mark("protocol", f"protocol: {column.protocol} with {words}"))
    if group.settings.get("backbone") != first.settings.get("backbone"):
        other = "with other options" if group.network == first.network else f"first row {first.network}"
        marks.append(Mark("network", f"network {group.network}, {other}"))
    if group.settings.get("epochs") != first.settings.get("epochs"):
        marks.append(Mark("epochs", f"{group.settings.get('epochs')} epochs, first row {first.settings.get('epochs')}"))
    return [*dict.fromkeys(marks), *_marks_of_runs(group)]


def _marks_of_runs(group: Group) -> list[Mark]:
    marks: list[Mark] = []
    if len(set(map(str, group.seeds))) < len(group.seeds):
        marks.append(Mark("seeds", "two runs share a seed: no repetition, the spread is too small"))
    if group.unfinished:
        number = f"{len(group.unfinished)} of {len(group.runs)} runs without scores"
        marks.append(Mark("unfinished", f"{number} (no labels, or not ended: gemel resume {group.unfinished[0].path})"))
    return marks


def _protocol_difference(own: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    own, first = rules_of(own), rules_of(first)
    return ", ".join(
        f"{key} {own.get(key)}, first row {first.get(key)}"
        for key in dict.fromkeys([*own, *first])
        if own.get(key) != first.get(key)
    )


def _of_dense(protocol: str, metric: str) -> str:
    """Return a metric of boxes, masks or pixels as the published table names it."""
    if protocol == "segmentation":
        return "mIoU" if metric == "miou" else metric
    kind, name = ("mask", metric.removeprefix("mask_")) if metric.startswith("mask_") else ("box", metric)
    return f"{kind} {name.upper()}"


def _part_of(settings: Mapping[str, Any]) -> str:
    return PARTS_OF_NETWORKS.get(str(settings.get("detector") or settings.get("head")), "?")


def _judged_on(group: Group, column: Column) -> str:
    return _data_of(group.protocols[column]) or group.data


def _data_of(settings: Mapping[str, Any]) -> str:
    """Return the dataset, or the folder's name; empty where it is not recorded."""
    return Path(str(settings.get("data") or "")).name


def _plain(name: str) -> str:
    bare = re.sub(r"[^a-z0-9]", "", name.lower().removesuffix(" val"))
    return ALIASES.get(bare, bare)
