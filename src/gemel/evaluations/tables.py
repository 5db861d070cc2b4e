"""Features and classes of images as tables, one row for each image."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from gemel.data.listing import printable
from gemel.evaluations.base import Subject
from gemel.evaluations.class_naming import likely
from gemel.evaluations.familiar import Familiar
from gemel.evaluations.features import Seen
from gemel.evaluations.gallery import small_picture
from gemel.evaluations.hand_edits import HandEdits


def vector_table(seen: Seen) -> pa.Table:
    """Return path and vector of each image."""
    width = seen.features.shape[1]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(seen.features.numpy().ravel()), width)
    return pa.table({"path": _paths(seen), "vector": vectors})


def picture_table(seen: Seen) -> pa.Table:
    """Return path, vector, image, then class and probability, and label, where there are some.

    `image` holds the bytes of a small picture and its name, as the datasets library has it, which the schema says.
    """
    columns: dict[str, Any] = {name: vector_table(seen)[name] for name in ("path", "vector")}
    pictures = [small_picture(seen.source, index) for index in seen.indices.tolist()]
    rows = [{"bytes": None if one is None else one.data, "path": None} for one in pictures]
    columns["image"] = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    if seen.top is not None:
        columns |= {"class": seen.top.classes[:, 0].numpy(), "probability": seen.top.probability[:, 0].numpy()}
    if seen.labels is not None:
        columns["label"] = _labels(seen)
    table = pa.table(columns)
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": _features(table)}})})


def _features(table: pa.Table) -> dict[str, Any]:
    """Return the types of a table's columns in the words of the datasets library."""
    found: dict[str, Any] = {}
    for field in table.schema:
        if field.name == "image":
            found[field.name] = {"_type": "Image"}
        elif pa.types.is_fixed_size_list(field.type):
            value = {"dtype": str(field.type.value_type).replace("float", "float32"), "_type": "Value"}
            found[field.name] = {"feature": value, "length": field.type.list_size, "_type": "Sequence"}
        else:
            found[field.name] = {"dtype": {"float": "float32"}.get(str(field.type), str(field.type)), "_type": "Value"}
    return found


def class_table(
    subject: Subject,
    seen: Seen,
    *,
    top: int,
    names: Mapping[int, str] = {},
    familiar: Familiar | None = None,
    edits: HandEdits | None = None,
) -> pa.Table:
    """Return path, class, probability, then class_2, probability_2 ... of the next likely ones, and label where known.

    With names also name, name_2, ...: classes of one name count as one, under its lowest number. With `familiar` also
    unlike: whether an image is unlike any that the run has learned from. With `edits` that change any row also edited:
    moved (the class is the user's, its probability 1), wrong (the image belongs to no class), or empty.
    """
    probability, found = likely(subject, seen, top, names)
    columns: dict[str, Any] = {"path": _paths(seen)}
    for rank in range(found.shape[1]):
        suffix = "" if rank == 0 else f"_{rank + 1}"
        columns[f"class{suffix}"] = found[:, rank].long().numpy().copy()
        if names:
            columns[f"name{suffix}"] = [names.get(one, str(one)) for one in found[:, rank].tolist()]
        columns[f"probability{suffix}"] = probability[:, rank].numpy().copy()
    if familiar is not None:
        columns["unlike"] = familiar.is_unlike(seen.features).numpy()
    if edits is not None and (edits.classes or edits.wrong):
        _edit(columns, edits, len(seen.indices))
    if seen.labels is not None:
        columns["label"] = _labels(seen)
    return pa.table(columns)


def _edit(columns: dict[str, Any], edits: HandEdits, count: int) -> None:
    for row, number in edits.classes.items():
        columns["class"][row], columns["probability"][row] = number, 1.0
        if "name" in columns:
            columns["name"][row] = edits.names.get(number, str(number))
    columns["edited"] = [edits.kind_of(row) for row in range(count)]


def _labels(seen: Seen) -> pa.Array:
    known, labels = seen.source.label_names, seen.labels
    assert labels is not None
    return pa.array([known[label] if label >= 0 else None for label in labels.tolist()], pa.string())


def _paths(seen: Seen) -> list[str]:
    return [printable(seen.source.path(index)) for index in seen.indices.tolist()]
