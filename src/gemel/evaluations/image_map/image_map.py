"""The map of a run's images as a table, which the closing pass writes: a row an image, those seen from afar first."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet
from torch import Tensor, from_numpy

from gemel.data.listing import printable
from gemel.evaluations.features import KEPT, Seen, drawn
from gemel.evaluations.image_map.layout import NEIGHBOURS, layout, main_directions
from gemel.evaluations.image_map.levels import levels
from gemel.evaluations.image_map.subclusters import subclusters
from gemel.metrics.neighbours import nearest
from gemel.runs.files import write_atomically
from gemel.runs.run import MAP, Run

MOST = 200_000
"""images on a map; of more, so many are drawn by chance"""
SHOWN = 8
"""nearest neighbours that the map knows of an image"""
LIKELY = KEPT
"""most likely classes that it knows of one: where classes are merged, the page adds up their probabilities"""


def map_table(seen: Seen) -> pa.Table:
    """Return the map of images.

    Columns: index (in the source), path, file (absolute; null without one), x and y (0 to 1), level (see `levels`),
    part (of its class, see `subclusters`), neighbours (rows of this table) and similarity (cosine), class and
    probability (lists, the likeliest first; empty without classes), label. The schema's metadata tell how many images
    there are and how many classes.
    """
    rows = drawn(np.arange(len(seen.features)), MOST)
    features = main_directions(seen.features[from_numpy(rows)])
    near = _neighbours(features)
    places = layout(features, near)
    sure = np.ones(len(rows)) if seen.top is None else seen.top.probability[from_numpy(rows), 0].numpy()
    by_sureness = np.argsort(-sure, kind="stable")
    level = np.empty(len(rows), np.uint8)
    level[by_sureness] = levels(places[by_sureness])
    order = np.lexsort((_curve(places), level))
    position = np.empty(len(rows), np.int32)
    position[order] = np.arange(len(rows), dtype=np.int32)
    indices = seen.indices[rows[order]]
    columns = {
        **_identity(seen, indices),
        "x": places[order, 0],
        "y": places[order, 1],
        "level": level[order],
        **_near(near, order, position),
        **_classes(seen, features, rows, order),
    }
    classes = 0 if seen.top is None else seen.top.class_count
    facts = {"images": str(len(seen.features)), "classes": str(classes)}
    return pa.table(columns).replace_schema_metadata(facts)


def write_map(run: Run, table: pa.Table) -> None:
    """Write evaluations/map.parquet."""
    write_atomically(run.path / MAP, lambda temporary: parquet.write_table(table, temporary))


def _neighbours(features: Tensor) -> tuple[Tensor, Tensor]:
    count = min(max(NEIGHBOURS, SHOWN), len(features) - 1)
    if count < 1:
        return features.new_zeros(len(features), 0), features.new_zeros(len(features), 0).long()
    similarity, index = nearest(features, features, count, leave_one_out=True)
    return similarity.float(), index


def _curve(places: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return how far along Morton's curve each place lies: neighbours on it are near each other on the map."""
    cells = (places * 1023).astype(np.int64)
    found = np.zeros(len(places), np.int64)
    for bit in range(10):
        found |= (cells[:, 0] >> bit & 1) << 2 * bit | (cells[:, 1] >> bit & 1) << 2 * bit + 1
    return found


def _identity(seen: Seen, indices: NDArray[np.int64]) -> dict[str, pa.Array]:
    source = seen.source
    files = [source.file(index) for index in indices.tolist()]
    columns = {
        "index": pa.array(indices, pa.int64()),
        "path": pa.array([printable(source.path(index)) for index in indices.tolist()], pa.string()),
        "file": pa.array([None if file is None else printable(file) for file in files], pa.string()),
    }
    if source.labels is not None:
        labels = source.labels[indices].tolist()
        names = [source.label_names[label] if label >= 0 else None for label in labels]
        columns["label"] = pa.array(names, pa.string())
    return columns


def _near(near: tuple[Tensor, Tensor], order: NDArray[np.int64], position: NDArray[np.int32]) -> dict[str, pa.Array]:
    similarity, index = (one[:, :SHOWN].numpy()[order] for one in near)
    return {
        "neighbours": _lists(position[index].astype(np.int32), pa.int32()),
        "similarity": _lists(similarity.astype(np.float32), pa.float32()),
    }


def _classes(
    seen: Seen, features: Tensor, rows: NDArray[np.int64], order: NDArray[np.int64]
) -> dict[str, pa.Array | NDArray[np.uint8]]:
    if seen.top is None:
        empty = np.empty((len(rows), 0))
        return {
            "part": np.zeros(len(rows), np.uint8),
            "class": _lists(empty.astype(np.int32), pa.int32()),
            "probability": _lists(empty.astype(np.float32), pa.float32()),
        }
    classes = seen.top.classes[from_numpy(rows), :LIKELY].numpy().astype(np.int32)
    probability = seen.top.probability[from_numpy(rows), :LIKELY].numpy()
    return {
        "part": subclusters(features, classes[:, 0])[order],
        "class": _lists(classes[order], pa.int32()),
        "probability": _lists(probability[order], pa.float32()),
    }


def _lists(rows: NDArray[np.generic], kind: pa.DataType) -> pa.Array:
    """Return (N, k) as a column of lists."""
    ends = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(np.ascontiguousarray(rows).ravel(), kind))
