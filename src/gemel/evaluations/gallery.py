"""Pictures for the report: each class's most and least certain images, and the nearest neighbours of a few images."""

from typing import Any

import numpy as np
import torch

from gemel.data.decode import Unreadable, load
from gemel.data.listing import printable
from gemel.data.sources import Source
from gemel.data.thumbnail import Thumbnail, thumbnail
from gemel.evaluations.features import Seen, Top
from gemel.metrics.neighbours import nearest

CLASSES = 100
"""classes that are shown, the largest ones"""

SHOWN = 12
"""most certain images of a class; half as many least certain ones"""

TOP = 3
"""most likely classes of an image"""

QUERIES = 8
"""images whose neighbours are shown"""

NEIGHBOURS = 7
"""of each of them"""


def gallery(seen: Seen) -> dict[str, Any]:
    """Return what evaluations/gallery.json holds: lists of images, and each image once as a picture."""
    classes, neighbours = _classes(seen), _neighbours(seen)
    wanted = [entry["id"] for one in classes for entry in (*one["certain"], *one["uncertain"])]
    wanted += [entry["id"] for one in neighbours for entry in (one["query"], *one["neighbours"])]
    pictures = {index: picture(seen.source, int(index)) for index in dict.fromkeys(wanted)}
    return {"pictures": pictures, "classes": classes, "neighbours": neighbours}


def _classes(seen: Seen) -> list[dict[str, Any]]:
    """Describe the largest classes, and the empty ones where there is room: size, mean probability, images."""
    if seen.top is None or seen.classes is None:
        return []
    probability, own = seen.top.probability[:, 0].numpy(), seen.classes
    counts = np.bincount(own, minlength=seen.top.class_count)
    order = np.lexsort((-probability, own))  # class by class, the most certain image first; stable
    ends = counts.cumsum()
    shown: list[dict[str, Any]] = []
    for number in np.argsort(-counts, kind="stable")[:CLASSES].tolist():
        rows = order[ends[number] - counts[number] : ends[number]]
        certain, uncertain = rows[:SHOWN], rows[SHOWN:][::-1][: SHOWN // 2]
        shown.append(
            {
                "class": number,
                "count": len(rows),
                "probability": float(probability[rows].mean()) if len(rows) else 0.0,
                "certain": [_entry(seen, row) | _likely(seen.top, row) for row in certain.tolist()],
                "uncertain": [_entry(seen, row) | _likely(seen.top, row) for row in uncertain.tolist()],
            }
        )
    return shown


def _likely(top: Top, row: int) -> dict[str, Any]:
    """Return the likeliest classes of an image, each with its probability."""
    shares = top.probability[row, :TOP].tolist()
    return {"probability": shares[0], "top": list(zip(top.classes[row, :TOP].tolist(), shares, strict=True))}


def _neighbours(seen: Seen) -> list[dict[str, Any]]:
    """Return a few images, evenly spread over the dataset, each with its nearest neighbours by cosine similarity."""
    count = len(seen.features)
    if count < 2:
        return []
    queries = np.unique(np.linspace(0, count - 1, min(QUERIES, count) * 2 + 1).astype(int)[1::2])
    # one more than shown: the image itself comes first and is left out
    similarity, found = nearest(seen.features[torch.from_numpy(queries)], seen.features, min(NEIGHBOURS + 1, count))
    rows: list[dict[str, Any]] = []
    for query, values, near in zip(queries.tolist(), similarity.tolist(), found.tolist(), strict=True):
        others = [
            _entry(seen, row) | {"similarity": value} for value, row in zip(values, near, strict=True) if row != query
        ]
        rows.append({"query": _entry(seen, query), "neighbours": others[:NEIGHBOURS]})
    return rows


def _entry(seen: Seen, row: int) -> dict[str, Any]:
    source, index = seen.source, int(seen.indices[row])
    entry: dict[str, Any] = {"id": str(index), "path": printable(source.path(index))}
    if source.labels is not None and source.labels[index] >= 0:
        entry["label"] = source.label_names[int(source.labels[index])]
    return entry


def picture(source: Source, index: int) -> str:
    """Return an image as a data URI; empty of vectors, or if it can't be read."""
    found = small_picture(source, index)
    return "" if found is None else found.uri


def small_picture(source: Source, index: int) -> Thumbnail | None:
    """Return an image as a small file; None of vectors, or if it can't be read."""
    if source.width is not None:
        return None
    try:
        return thumbnail(source.display.picture(load(source, index)))
    except Unreadable:
        return None
