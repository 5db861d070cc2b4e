"""The discovered classes and the nearest neighbours, with their pictures."""

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field, ValidationError

from gemel.errors import UserError, brief
from gemel.reports.charts.svg import Mark
from gemel.reports.charts.svg_charts import bar_chart, heat_map
from gemel.reports.formatting import number, percent

MOST_PICTURES = 12
"""of the most and of the least certain images of a class: a row on a desktop, two on a phone"""
MOST_BARS = 200
"""of the class sizes; further bars would be thinner than a pixel"""
MOST_CELLS = 40
"""a heat map with more rows or columns than this can't be read"""
SMALL = 48
"""pictures of fewer pixels a side are enlarged as squares, without smoothing"""
DATA = "data:image/"


class Entry(BaseModel):
    """An image of gallery.json."""

    id: str
    path: str
    label: str = ""
    """empty if it has none"""
    probability: float = 0.0
    top: list[tuple[int, float]] = []
    """the likeliest classes, each with its probability"""
    similarity: float = 0.0


class GalleryClass(BaseModel):
    """A class of gallery.json."""

    number: int = Field(alias="class")
    count: int
    probability: float
    """mean over its images"""
    certain: list[Entry]
    uncertain: list[Entry]


class GalleryNeighbours(BaseModel):
    """An image of gallery.json and those nearest to it."""

    query: Entry
    neighbours: list[Entry]


class Gallery(BaseModel):
    """What gallery.json holds."""

    pictures: dict[str, str] = {}
    """data URIs by the images' ids"""
    classes: list[GalleryClass] = []
    neighbours: list[GalleryNeighbours] = []


class Picture(NamedTuple):
    """An image of the page; `source` is always a data URI, so the page loads nothing."""

    source: str
    title: str
    lines: tuple[str, ...]
    """what stands below it"""
    odd: bool
    """its label differs from that of the images around it"""
    small: bool


class ClassCard(NamedTuple):
    """A discovered class."""

    number: int
    name: str
    """that it was given; empty without"""
    images: int
    share: str
    probability: str
    """mean over its images; empty if unknown"""
    majority: str
    """its most frequent label and that label's share; empty without labels"""
    certain: tuple[Picture, ...]
    uncertain: tuple[Picture, ...]


class Neighbourhood(NamedTuple):
    """An image and those nearest to it."""

    query: Picture
    neighbours: tuple[Picture, ...]


class Classes(NamedTuple):
    """All that the page says about the discovered classes."""

    cards: tuple[ClassCard, ...]
    """those with pictures, largest first"""
    others: tuple[ClassCard, ...]
    """those without, largest first"""
    empty: tuple[int, ...]
    images: int
    sizes: str
    table: str
    """classes against labels; empty without labels, or with too many"""
    labelled: bool
    duplicates: tuple[str, ...]
    """labels that are the most frequent one in several classes, with those classes"""
    mixed: tuple[int, ...]
    """classes in which no label has half of the images"""


def read_gallery(found: Mapping[str, Any] | None, where: object) -> Gallery:
    """Return gallery.json in its types; empty where there is none.

    Args:
        found: what the file holds.
        where: the file, for the message.

    Raises:
        UserError: it is damaged.
    """
    try:
        return Gallery.model_validate(found or {})
    except ValidationError as error:
        first = error.errors()[0]
        reason = brief(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        raise UserError(f"{where} is damaged: {reason}; delete it and run the command again") from error


def classes_of(
    gallery: Gallery, table: pa.Table | None, possible: int | None, names: Mapping[int, str] = {}
) -> Classes | None:
    """Return what is known of each class; None for a method without classes.

    Args:
        gallery: its pictures.
        table: classes.parquet.
        possible: the method's number of classes.
        names: that classes were given.
    """
    entries = {entry.number: entry for entry in gallery.classes}
    counts, means = _sizes(table, entries)
    if not counts:
        return None
    labels = _labels(table)
    used = sorted((index for index in counts if counts[index]), key=lambda index: (-counts[index], index))
    images = sum(counts.values())
    cards = [
        _card(
            index,
            counts[index],
            counts[index] / images,
            names=names,
            probability=means.get(index),
            labels=labels.get(index, {}),
            entry=entries.get(index),
            gallery=gallery,
        )
        for index in used
    ]
    count = max(possible or 0, max(*counts, *entries, 0) + 1)
    bars = [Mark(card.images, str(card.number)) for card in cards[:MOST_BARS]]
    return Classes(
        cards=tuple(card for card in cards if card.certain or card.uncertain),
        others=tuple(card for card in cards if not (card.certain or card.uncertain)),
        empty=tuple(index for index in range(count) if not counts.get(index)),
        images=images,
        sizes=bar_chart("Images in each class", bars, "class") if bars else "",
        table=_against_labels(labels),
        labelled=bool(labels),
        duplicates=_duplicates(labels),
        mixed=tuple(index for index, each in sorted(labels.items()) if max(each.values()) < 0.5 * sum(each.values())),
    )


def picture_of(source: str, title: str, lines: tuple[str, ...], *, odd: bool = False) -> Picture | None:
    """Return a picture; None where the source is no data URI: nothing else may be loaded."""
    return Picture(source, title, lines, odd, _is_small(source)) if source.startswith(DATA) else None


def neighbourhoods_of(gallery: Gallery) -> list[Neighbourhood]:
    """Return the neighbours of each image that the closing pass chose."""
    found: list[Neighbourhood] = []
    for one in gallery.neighbours:
        shown = _picture(one.query, gallery, ("query",), "", one.query.label)
        near = [
            _picture(
                other,
                gallery,
                (f"{other.similarity:.2f}".replace("-", "−"),),
                f"similarity {number(other.similarity)}",
                one.query.label,
            )
            for other in one.neighbours
        ]
        if shown:
            found.append(Neighbourhood(shown, tuple(picture for picture in near if picture)))
    return found


def _sizes(table: pa.Table | None, entries: Mapping[int, GalleryClass]) -> tuple[dict[int, int], dict[int, float]]:
    """Return size and mean probability of each class; the table knows them all, the gallery the largest."""
    if table is None or not table.num_rows:
        sizes = {index: entry.count for index, entry in entries.items()}
        return sizes, {index: entry.probability for index, entry in entries.items() if entry.count}
    grouped = table.group_by("class").aggregate([([], "count_all"), ("probability", "mean")])
    rows = [row for row in grouped.to_pylist() if row["class"] is not None]
    means = {row["class"]: row["probability_mean"] for row in rows if row["probability_mean"] is not None}
    return {row["class"]: row["count_all"] for row in rows}, means


def _labels(table: pa.Table | None) -> dict[int, dict[str, int]]:
    """Count the labels within each class."""
    if table is None or "label" not in table.column_names:
        return {}
    found: dict[int, dict[str, int]] = {}
    for row in table.group_by(["class", "label"]).aggregate([([], "count_all")]).to_pylist():
        if row["label"] not in (None, "") and row["class"] is not None:
            found.setdefault(row["class"], {})[str(row["label"])] = row["count_all"]
    return found


def _card(
    index: int,
    images: int,
    share: float,
    *,
    names: Mapping[int, str],
    probability: float | None,
    labels: Mapping[str, int],
    entry: GalleryClass | None,
    gallery: Gallery,
) -> ClassCard:
    most = _most(labels)
    majority = f"mostly “{most}” ({percent(labels[most] / sum(labels.values()))})" if most else ""
    kinds = ((), ()) if entry is None else (entry.certain, entry.uncertain)
    certain, uncertain = (_pictures(kind, gallery, most, names) for kind in kinds)
    mean = "" if probability is None else number(round(probability, 3))
    return ClassCard(index, names.get(index, ""), images, percent(share), mean, majority, certain, uncertain)


def _pictures(entries: Sequence[Entry], gallery: Gallery, label: str, names: Mapping[int, str]) -> tuple[Picture, ...]:
    """Return pictures with their likeliest classes below."""
    found: list[Picture | None] = []
    for entry in entries[:MOST_PICTURES]:
        top = [(names.get(index, str(index)), share) for index, share in entry.top]
        lines = tuple(f"{name} · {share:.2f}" for name, share in top) or (f"{entry.probability:.2f}",)
        told = ", ".join(f"class {name}: {share:.2f}" for name, share in top)
        found.append(_picture(entry, gallery, lines, told or f"probability {number(entry.probability)}", label))
    return tuple(picture for picture in found if picture)


def _picture(entry: Entry, gallery: Gallery, lines: tuple[str, ...], told: str, expected: str) -> Picture | None:
    """Return an entry's picture; None if the gallery lacks it, or names a file instead."""
    title = " · ".join(part for part in (entry.path, told, f"label {entry.label}" if entry.label else "") if part)
    odd = bool(expected and entry.label and entry.label != expected)
    return picture_of(gallery.pictures.get(entry.id, ""), title, lines, odd=odd)


def _is_small(source: str) -> bool:
    """Return whether a picture is small: a PNG's size is in its first bytes; other formats are photos."""
    start = "data:image/png;base64,"
    if not source.startswith(start) or len(source) < len(start) + 32:
        return False
    try:
        width, height = struct.unpack(">II", base64.b64decode(source[len(start) : len(start) + 32])[16:24])
    except (ValueError, struct.error):  # no base64: the browser shows no picture either
        return False
    return max(width, height) < SMALL


def _against_labels(labels: Mapping[int, Mapping[str, int]]) -> str:
    """Draw classes against labels, each class near its most frequent label, so that agreement is a diagonal."""
    columns = sorted({label for counts in labels.values() for label in counts}, key=_natural)
    if not columns or len(columns) > MOST_CELLS or len(labels) > MOST_CELLS:
        return ""
    counts = {index: [found.get(label, 0) for label in columns] for index, found in labels.items()}
    order = sorted(counts, key=lambda index: (counts[index].index(max(counts[index])), -max(counts[index])))
    cells = np.array([counts[index] for index in order], dtype=np.int64)
    return heat_map("Discovered classes (rows) against labels (columns)", list(map(str, order)), columns, cells)


def _duplicates(labels: Mapping[int, Mapping[str, int]]) -> tuple[str, ...]:
    """Return labels that several classes share; merged, these classes would be one."""
    of_label: dict[str, list[int]] = {}
    for index in sorted(labels):
        of_label.setdefault(_most(labels[index]), []).append(index)
    many = sorted((label for label in of_label if len(of_label[label]) > 1), key=_natural)
    return tuple(f"“{label}” in classes {', '.join(map(str, of_label[label]))}" for label in many)


def _most(labels: Mapping[str, int]) -> str:
    """Return the most frequent label; empty without labels."""
    return max(labels, key=lambda label: labels[label], default="")


def _natural(label: str) -> tuple[int, int, str]:
    """Return a key that sorts labels that are numbers as numbers, before the others."""
    return (0, int(label), "") if label.isdecimal() and len(label) < 19 else (1, 0, label)
