"""The discovered classes and the nearest neighbours, with their pictures."""

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from gemel.reports.charts.svg import Mark
from gemel.reports.charts.svg_charts import bar_chart, heat_map
from gemel.reports.formatting import number, percent

MOST_PICTURES = 12
"""Of the most and of the least certain images of a class: a row on a desktop, two on a phone."""
MOST_BARS = 200
"""Of the class sizes; further bars would be thinner than a pixel."""
MOST_CELLS = 40
"""A heat map with more rows or columns than this can't be read."""
SMALL = 48
"""Pictures of fewer pixels a side are enlarged as squares; to smooth them would invent what is not there."""
DATA = "data:image/"


class Picture(NamedTuple):
    """An image of the gallery; `source` is always a data URI, so the page loads nothing."""

    source: str
    title: str
    lines: tuple[str, ...]
    """what stands below it"""
    odd: bool
    """its label differs from those it is shown with"""
    small: bool


class ClassCard(NamedTuple):
    """A discovered class."""

    name: int
    called: str
    """the name it was given; empty without"""
    images: int
    share: str
    probability: str
    """mean probability of its images; empty if unknown"""
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


def classes_of(
    gallery: Mapping[str, Any] | None,
    table: pa.Table | None,
    possible: int | None,
    called: Mapping[int, str] = {},
) -> Classes | None:
    """Gather what is known of each class, with the names they were given; None for a method without classes."""
    entries = {int(entry["class"]): entry for entry in (gallery or {}).get("classes", [])}
    counts, means = _sizes(table, entries)
    if not counts:
        return None
    images = sum(counts.values())
    names = _label_names(gallery)
    labels = _labels(table, names)
    cards = tuple(
        _card(
            name,
            counts[name],
            called=called,
            share=counts[name] / images,
            probability=means.get(name),
            labels=labels.get(name, {}),
            entry=entries.get(name, {}),
            gallery=gallery or {},
        )
        for name in sorted(counts, key=lambda name: (-counts[name], name))
        if counts[name]
    )
    empty = tuple(name for name in range(max(possible or 0, max(*counts, *entries, 0) + 1)) if not counts.get(name))
    bars = [Mark(card.images, str(card.name)) for card in cards[:MOST_BARS]]
    sizes = bar_chart("Images in each class", bars, "class") if bars else ""
    shown = tuple(card for card in cards if card.certain or card.uncertain)
    others = tuple(card for card in cards if not (card.certain or card.uncertain))
    against = _against_labels(labels)
    return Classes(shown, others, empty, images, sizes, against, bool(labels), _duplicates(labels), _mixed(labels))


def neighbourhoods_of(gallery: Mapping[str, Any] | None) -> list[Neighbourhood]:
    """Show the neighbours of each image that the evaluation chose."""
    found: list[Neighbourhood] = []
    names = _label_names(gallery)
    for entry in (gallery or {}).get("neighbours", []):
        query = _label(entry["query"], names)
        near = [
            _picture(other, gallery or {}, (f"{other['similarity']:.2f}".replace("-", "−"),), _similar(other), query)
            for other in entry["neighbours"]
        ]
        shown = _picture(entry["query"], gallery or {}, ("query",), "", query)
        if shown:
            found.append(Neighbourhood(shown, tuple(picture for picture in near if picture)))
    return found


def _similar(entry: Mapping[str, Any]) -> str:
    return f"similarity {number(entry['similarity'])}"


def _sizes(table: pa.Table | None, entries: Mapping[int, Mapping[str, Any]]) -> tuple[dict[int, int], dict[int, float]]:
    """Count the images of each class, and mean their probability; the table knows them all, the gallery may not."""
    if table is None or not table.num_rows:
        counts = {name: int(entry["count"]) for name, entry in entries.items()}
        return counts, {
            name: float(entry["probability"]) for name, entry in entries.items() if entry.get("probability")
        }
    grouped = table.group_by("class").aggregate([("path", "count"), ("probability", "mean")])
    rows = [(row["class"], row["path_count"], row["probability_mean"]) for row in grouped.to_pylist()]
    known = [(int(name), int(count), mean) for name, count, mean in rows if name is not None]
    return {name: count for name, count, _ in known}, {name: float(mean) for name, _, mean in known if mean is not None}


def _labels(table: pa.Table | None, names: Mapping[str, str]) -> dict[int, dict[str, int]]:
    """Count the labels within each class."""
    if table is None or "label" not in table.column_names:
        return {}
    found: dict[int, dict[str, int]] = {}
    for row in table.group_by(["class", "label"]).aggregate([("path", "count")]).to_pylist():
        label = _label(row, names)
        if label and row["class"] is not None:
            found.setdefault(int(row["class"]), {})[label] = int(row["path_count"])
    return found


def _label(entry: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Say an entry's label; empty if it has none (-1 stands for unknown in the data sets)."""
    label = entry.get("label")
    return "" if label in (None, -1, "-1", "") else str(names.get(str(label), label))


def _label_names(gallery: Mapping[str, Any] | None) -> dict[str, str]:
    names = (gallery or {}).get("label_names") or {}
    pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
    return {str(key): str(name) for key, name in pairs}


def _card(
    name: int,
    count: int,
    *,
    called: Mapping[int, str],
    share: float,
    probability: float | None,
    labels: Mapping[str, int],
    entry: Mapping[str, Any],
    gallery: Mapping[str, Any],
) -> ClassCard:
    most = max(labels, key=lambda label: labels[label], default="")
    majority = f"mostly “{most}” ({percent(labels[most] / sum(labels.values()))})" if most else ""
    shown = [_pictures(entry.get(kind, []), gallery, most, called) for kind in ("certain", "uncertain")]
    mean = "" if probability is None else number(round(probability, 3))
    return ClassCard(name, called.get(name, ""), count, percent(share), mean, majority, shown[0], shown[1])


def _pictures(
    entries: Sequence[Mapping[str, Any]], gallery: Mapping[str, Any], label: str, called: Mapping[int, str]
) -> tuple[Picture, ...]:
    """Each with its three likeliest classes below it, as in Figure 1 of TWIST's slides."""
    found: list[Picture | None] = []
    for entry in entries[:MOST_PICTURES]:
        # a gallery of an older run knows the likeliest class alone, the one that the card is of
        top = [(called.get(int(name), str(name)), share) for name, share in entry.get("top") or []]
        lines = tuple(f"{name} · {share:.2f}" for name, share in top) or (f"{entry['probability']:.2f}",)
        told = ", ".join(f"class {name}: {share:.2f}" for name, share in top)
        found.append(_picture(entry, gallery, lines, told or f"probability {number(entry['probability'])}", label))
    return tuple(picture for picture in found if picture)


def _picture(
    entry: Mapping[str, Any], gallery: Mapping[str, Any], lines: tuple[str, ...], told: str, expected: str
) -> Picture | None:
    """Find an entry's picture; None if the gallery has it not, or names a file in its place."""
    source = gallery.get("pictures", {}).get(str(entry["id"]), "")
    if not source.startswith(DATA):
        return None
    label = _label(entry, _label_names(gallery))
    title = " · ".join(part for part in (str(entry["path"]), told, f"label {label}" if label else "") if part)
    return Picture(source, title, lines, bool(expected and label and label != expected), _is_small(source))


def _is_small(source: str) -> bool:
    """Read the size of a PNG from its first bytes; other formats are photos."""
    start = "data:image/png;base64,"
    if not source.startswith(start) or len(source) < len(start) + 32:
        return False
    width, height = struct.unpack(">II", base64.b64decode(source[len(start) : len(start) + 32])[16:24])
    return max(width, height) < SMALL


def _against_labels(labels: Mapping[int, Mapping[str, int]]) -> str:
    """Draw classes against labels, each class near its most frequent label, so that agreement is a diagonal."""
    columns = sorted({label for counts in labels.values() for label in counts}, key=_natural)
    if not columns or len(columns) > MOST_CELLS or len(labels) > MOST_CELLS:
        return ""
    counts = {name: [found.get(label, 0) for label in columns] for name, found in labels.items()}
    order = sorted(counts, key=lambda name: (counts[name].index(max(counts[name])), -max(counts[name])))
    cells = np.array([counts[name] for name in order], dtype=np.int64)
    return heat_map("Discovered classes (rows) against labels (columns)", [str(name) for name in order], columns, cells)


def _duplicates(labels: Mapping[int, Mapping[str, int]]) -> tuple[str, ...]:
    """Find labels that several classes share; merged, these classes would be one."""
    of_label: dict[str, list[int]] = {}
    for name in sorted(labels):
        of_label.setdefault(max(labels[name], key=lambda label: labels[name][label]), []).append(name)
    many = sorted((label for label in of_label if len(of_label[label]) > 1), key=_natural)
    return tuple(f"“{label}” in classes {', '.join(map(str, of_label[label]))}" for label in many)


def _mixed(labels: Mapping[int, Mapping[str, int]]) -> tuple[int, ...]:
    return tuple(name for name, counts in sorted(labels.items()) if max(counts.values()) < 0.5 * sum(counts.values()))


def _natural(label: str) -> tuple[int, int, str]:
    """Sort labels that are numbers as numbers, before the others."""
    return (0, int(label), "") if label.isdecimal() else (1, 0, label)
