"""Pictures for the report: each class's most and least certain images, the neighbours of a few."""

import base64
import io
from typing import Any

import numpy as np
import torch
from PIL import Image

from gemel.data.decode import Unreadable, load
from gemel.data.listing import printable
from gemel.data.sources import Source
from gemel.evaluations.features import Seen
from gemel.metrics.neighbours import nearest

SIDE = 96
"""of a picture, pixels"""

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
    """What evaluations/gallery.json holds: lists of images, and each image once as a picture."""
    classes = _classes(seen) if seen.probabilities is not None else []
    neighbours = _neighbours(seen)
    wanted = [entry["id"] for one in classes for entry in (*one["certain"], *one["uncertain"])]
    wanted += [entry["id"] for one in neighbours for entry in (one["query"], *one["neighbours"])]
    pictures = {place: _picture(seen.source, int(place)) for place in dict.fromkeys(wanted)}
    return {"pictures": pictures, "classes": classes, "neighbours": neighbours}


def _classes(seen: Seen) -> list[dict[str, Any]]:
    assert seen.probabilities is not None
    probability, own = (value.numpy() for value in seen.probabilities.max(1))
    shares, likely = seen.probabilities.topk(min(TOP, seen.probabilities.shape[1]), dim=1)
    tops = [list(zip(*pair, strict=True)) for pair in zip(likely.tolist(), shares.tolist(), strict=True)]
    counts = np.bincount(own, minlength=seen.probabilities.shape[1])
    shown: list[dict[str, Any]] = []
    for number in np.argsort(-counts, kind="stable"):
        rows = np.flatnonzero(own == number)
        if len(shown) >= CLASSES and len(rows):
            break
        rows = rows[np.argsort(-probability[rows], kind="stable")]
        certain, uncertain = rows[:SHOWN], rows[SHOWN:][::-1][: SHOWN // 2]
        shown.append(
            {
                "class": int(number),
                "count": len(rows),
                "probability": float(probability[rows].mean()) if len(rows) else 0.0,
                "certain": [
                    _entry(seen, row) | {"probability": float(probability[row]), "top": tops[row]} for row in certain
                ],
                "uncertain": [
                    _entry(seen, row) | {"probability": float(probability[row]), "top": tops[row]} for row in uncertain
                ],
            }
        )
    return shown


def _neighbours(seen: Seen) -> list[dict[str, Any]]:
    count = len(seen.features)
    if count < 2:
        return []
    queries = np.unique(np.linspace(0, count - 1, min(QUERIES, count) * 2 + 1).astype(int)[1::2])
    # one more than shown: the image itself comes first and is left out by its place
    similarity, found = nearest(seen.features[torch.from_numpy(queries)], seen.features, min(NEIGHBOURS + 1, count))
    rows: list[dict[str, Any]] = []
    for number, query in enumerate(queries):
        others = [
            _entry(seen, int(row)) | {"similarity": float(value)}
            for value, row in zip(similarity[number], found[number], strict=True)
            if int(row) != query
        ]
        rows.append({"query": _entry(seen, int(query)), "neighbours": others[:NEIGHBOURS]})
    return rows


def _entry(seen: Seen, row: int) -> dict[str, Any]:
    place = int(seen.places[row])
    entry: dict[str, Any] = {"id": str(place), "path": printable(seen.source.path(place))}
    labels = seen.labels
    if labels is not None and labels[row] >= 0:
        entry["label"] = seen.source.label_names[int(labels[row])]
    return entry


def _picture(source: Source, place: int) -> str:
    try:
        image = Image.fromarray(load(source, place))
    except Unreadable:  # it was readable a moment ago: the report goes without it
        return ""
    buffer = io.BytesIO()
    if max(image.size) <= SIDE:
        image.save(buffer, "PNG")
        kind = "png"
    else:
        image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
        image.convert("RGB").save(buffer, "JPEG", quality=82)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
