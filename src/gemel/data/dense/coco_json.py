"""Annotations in COCO's form: one JSON file of images, annotations and categories."""

import json
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemel.data.dense.objects import Objects, Regions
from gemel.data.downstream.parts import Layout
from gemel.data.listing import Paths
from gemel.data.sources import FileSource
from gemel.errors import UserError, brief

NAMED = 5
"""faulty annotations that a message names"""

MOST_FAULTY = 1 / 1000
"""share of the annotations that may have an impossible box: COCO's own have one or two"""


class _Columns:
    """What is kept of each annotation, as the parser meets it: the tree of dictionaries never exists as a whole."""

    def __init__(self) -> None:
        self.images: list[Any] = []
        self.categories: list[Any] = []
        self.boxes, self.areas = array("d"), array("d")
        self.crowd = array("b")
        self.names: list[Any] = []
        self.points, self.ends, self.starts = array("d"), array("q"), array("q", [0])
        self.codes: dict[int, Any] = {}
        self.malformed: list[str] = []
        self.short = 0

    def take(self, one: dict[str, Any]) -> Any:
        """Take an object that was parsed; return what stands for it in the tree."""
        if "category_id" in one and "image_id" in one:
            self._annotation(one)
            return None
        if "file_name" in one:
            return (_key(one.get("id")), *(one.get(key) for key in ("file_name", "height", "width")))
        return one

    def _annotation(self, one: Mapping[str, Any]) -> None:
        name = one.get("id", len(self.images))
        box: Any = one.get("bbox")
        if not _numbers(box) or len(box) != 4:
            self.malformed.append(f"annotation {brief(name)} has the bbox {brief(box)}, not [x, y, width, height]")
            box = (0.0, 0.0, 0.0, 0.0)
        area = one.get("area")
        self.images.append(_key(one["image_id"]))
        self.categories.append(_key(one["category_id"]))
        self.names.append(name)
        self.boxes.extend(box)
        self.areas.append(float(area) if isinstance(area, int | float) else box[2] * box[3])
        self.crowd.append(bool(one.get("iscrowd")))
        self._region(name, one.get("segmentation"))

    def _region(self, name: Any, region: Any) -> None:
        if isinstance(region, Mapping):
            code: dict[str, Any] = {"size": region.get("size"), "counts": region.get("counts")}
            plain = isinstance(code["counts"], list)
            if not _numbers(code["size"]) or not (isinstance(code["counts"], str) or _numbers(code["counts"])):
                self.malformed.append(f"annotation {brief(name)} has run lengths without size or counts")
            else:
                self.codes[len(self.images) - 1] = code | (
                    {"counts": [int(n) for n in code["counts"]]} if plain else {}
                )
        elif isinstance(region, list):
            for polygon in region:
                if not _numbers(polygon) or len(polygon) % 2:
                    self.malformed.append(f"annotation {brief(name)} has the polygon {brief(polygon)}")
                elif len(polygon) < 6:
                    self.short += 1
                else:
                    self.points.extend(polygon)
                    self.ends.append(len(self.points))
        elif region is not None:
            self.malformed.append(f"annotation {brief(name)} has the segmentation {brief(region)}")
        self.starts.append(len(self.ends))


def read_objects(described: Layout, file: Path, folders: list[Path]) -> Objects:
    """Return the annotated images of a file.

    Args:
        described: the set, for messages.
        file: of COCO's form.
        folders: where the images may lie; the first that holds the first image.

    Raises:
        UserError: with every mistake in it.
    """
    columns = _Columns()
    images, names, ids = _parsed(described, file, columns)
    mistakes = [f"{file}: {one}" for one in columns.malformed]
    sizes = np.array([_size(row) for row in images], np.int64).reshape(-1, 2)
    keys = [row[0] for row in images]
    place = {key: index for index, key in enumerate(keys)}
    if len(place) < len(keys):
        twice = next(key for index, key in enumerate(keys) if place[key] != index)
        mistakes.append(f"{file}: two images have the id {brief(twice)}")
    rank = {key: index for index, key in enumerate(ids)}
    for what, given, known in (("image", columns.images, place), ("category", columns.categories, rank)):
        strange = [name for name, key in zip(columns.names, given, strict=True) if key not in known]
        if strange:
            shown = ", ".join(map(brief, strange[:NAMED]))
            mistakes.append(f"{file}: {len(strange)} annotations name a {what} that the file lacks: {shown}")
    if (sizes <= 0).any():
        mistakes.append(f"{file}: {int((sizes <= 0).any(1).sum())} images have no height and width in pixels")
    root, paths = _paths(described, file, images, folders, mistakes)
    if mistakes:
        raise UserError(*mistakes)
    source = FileSource(described.title, str(root), str(root), Paths.of([one.encode() for one in paths]))
    return _objects(file, columns, source, keys, sizes, place, rank, names)


def _objects(
    file: Path,
    columns: _Columns,
    source: FileSource,
    keys: list[Any],
    sizes: NDArray[np.int64],
    place: Mapping[Any, int],
    rank: Mapping[Any, int],
    names: list[str],
) -> Objects:
    image = np.fromiter((place[key] for key in columns.images), np.int64, len(columns.images))
    boxes = np.frombuffer(columns.boxes, np.float64).reshape(-1, 4) if len(columns.boxes) else np.zeros((0, 4))
    kept, notes = _possible(file, columns, boxes, sizes[image])
    _check_codes(file, columns, image, sizes)
    order = np.flatnonzero(kept)[np.argsort(image[kept], kind="stable")]
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)[order]
    counts = np.bincount(image[order], minlength=len(keys))
    classes = np.fromiter((rank[key] for key in columns.categories), np.int64, len(image))
    return Objects(
        images=source,
        ids=keys,
        sizes=sizes,
        starts=np.concatenate([[0], np.cumsum(counts)]),
        boxes=corners,
        classes=classes[order],
        crowd=np.array(columns.crowd, bool)[order],
        difficult=np.zeros(len(order), bool),
        areas=np.array(columns.areas, np.float64)[order],
        regions=_regions(columns, order),
        names=names,
        categories=list(rank),
        notes={name: count for name, count in (notes | {"polygons_too_short": columns.short}).items() if count},
    )


def _parsed(described: Layout, file: Path, columns: _Columns) -> tuple[list[Any], list[str], list[Any]]:
    """Return rows of the images (id, file_name, height, width), and names and ids of the categories, sorted by id."""
    try:
        tree = json.loads(file.read_text(encoding="utf-8"), object_hook=columns.take)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{described.title}: {file} can't be read as JSON: {brief(str(error))}") from error
    wanted = ("images", "annotations", "categories")
    missing = [key for key in wanted if not isinstance(tree, dict) or not isinstance(tree.get(key), list)]
    if missing:
        raise UserError(f"{described.title}: {file} has no list of {', '.join(missing)}; expected {described.layout}")
    wrong = [f"an annotation without image_id and category_id: {brief(one)}" for one in tree["annotations"] if one]
    wrong += [f"an image without file_name: {brief(one)}" for one in tree["images"] if not isinstance(one, tuple)]
    kinds = [one for one in tree["categories"] if isinstance(one, dict) and isinstance(one.get("id"), int)]
    if len(kinds) < len(tree["categories"]) or not kinds or len({one["id"] for one in kinds}) < len(kinds):
        wrong.append("categories need ids, whole numbers, each once")
    if not tree["images"]:
        wrong.append("no images")
    if wrong:
        raise UserError(*(f"{file}: {one}" for one in wrong))
    kinds.sort(key=lambda one: one["id"])
    return tree["images"], [str(one.get("name", one["id"])) for one in kinds], [one["id"] for one in kinds]


def _paths(
    described: Layout, file: Path, images: list[Any], folders: list[Path], mistakes: list[str]
) -> tuple[Path, list[str]]:
    """Return the folder of the images, and their paths below it; what is missing joins the mistakes."""
    paths = [str(row[1]) for row in images]
    root = next((folder for folder in folders if (folder / paths[0]).is_file()), folders[0])
    missing = [one for one in paths if not (root / one).is_file()]
    if missing:
        mistakes.append(
            f"{described.title}: {len(missing)} of {len(paths)} images of {file} are missing in {root}, the first is "
            f"{brief(missing[0])}; expected {described.layout}. {described.origin}"
        )
    return root, paths


def _possible(
    file: Path, columns: _Columns, boxes: NDArray[np.float64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Return which boxes can be, and how many can't.

    Raises:
        UserError: more than `MOST_FAULTY` of them can't.
    """
    finite = np.isfinite(boxes).all(1)
    with np.errstate(invalid="ignore"):
        has_area = np.all(boxes[:, 2:] > 0, axis=1)
        inside = (boxes[:, :2] < sizes[:, ::-1]).all(1) & (boxes[:, :2] + boxes[:, 2:] > 0).all(1)
    kept = np.asarray(finite & has_area & inside, np.bool_)
    faulty = np.flatnonzero(~kept)
    if len(faulty) > MOST_FAULTY * len(kept):
        shown = ", ".join(f"{brief(columns.names[one])} {boxes[one].tolist()}" for one in faulty[:NAMED].tolist())
        raise UserError(
            f"{file}: {len(faulty)} of {len(kept)} annotations have a box without area, outside of its image or not "
            f"finite: {shown}; a box is [x, y, width, height] in pixels from 0"
        )
    return kept, {"impossible_boxes": len(faulty)}


def _check_codes(file: Path, columns: _Columns, image: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
    wrong = [
        columns.names[row] for row, code in columns.codes.items() if list(code["size"]) != sizes[image[row]].tolist()
    ]
    if wrong:
        shown = ", ".join(map(brief, wrong[:NAMED]))
        raise UserError(f"{file}: {len(wrong)} annotations have run lengths of another size than their image: {shown}")


def _regions(columns: _Columns, order: NDArray[np.int64]) -> Regions | None:
    """Return the regions in another order; None where not every object has one."""
    starts, ends = np.array(columns.starts, np.int64), np.array(columns.ends, np.int64)
    firsts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    rows = [one for row in order.tolist() for one in range(starts[row], starts[row + 1])]
    points = np.frombuffer(columns.points, np.float64) if len(columns.points) else np.zeros(0)
    same = rows == list(range(len(ends)))
    moved = points if same else np.concatenate([np.zeros(0), *(points[firsts[one] : ends[one]] for one in rows)])
    sides = (ends - firsts)[rows] if len(rows) else np.zeros(0, np.int64)
    counts = np.diff(starts)[order]
    codes = {new: columns.codes[row] for new, row in enumerate(order.tolist()) if row in columns.codes}
    found = Regions(moved, np.cumsum(sides), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), codes)
    return found if len(order) and found.known().all() else None


def _size(row: Any) -> tuple[int, int]:
    sides = [side if isinstance(side, int) else 0 for side in row[2:]]
    return sides[0], sides[1]


def _key(value: Any) -> int | str:
    return value if isinstance(value, int | str) else brief(value)


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(type(one) in (int, float) for one in values)
