"""Images with boxes, classes and masks of what they show, in arrays: a million objects are no tree of dictionaries."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemel.data.sources import Source
from gemel.data.sources.identity import version_key
from gemel.hashing import hash_of
from gemel.metrics.dense import coco

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Regions:
    """What each object covers: polygons, or run lengths.

    Args:
        points: coordinates of all polygons, one behind the other: x0, y0, x1, y1, ...
        ends: where each polygon ends in `points`, (R,).
        starts: index of each object's first polygon, (M + 1,).
        codes: run lengths by object, {"size", "counts"}; such an object has no polygon.
    """

    points: NDArray[np.float64]
    ends: NDArray[np.int64]
    starts: NDArray[np.int64]
    codes: dict[int, Any]

    def region(self, row: int) -> Any:
        """Return an object's `segmentation` as COCO's files have it; an empty list where there is none."""
        if row in self.codes:
            return self.codes[row]
        return [self._polygon(one).tolist() for one in range(self.starts[row], self.starts[row + 1])]

    def known(self) -> Mask:
        """Return which objects have one, (M,)."""
        there = np.diff(self.starts) > 0
        there[list(self.codes)] = True
        return there

    def mask(self, row: int, size: tuple[int, int], shown: tuple[int, int]) -> Mask:
        """Return an object's mask, (H, W) of `shown`.

        Args:
            row: the object.
            size: height and width of its image.
            shown: height and width that the image was resized to; polygons are scaled, run lengths take the nearest.
        """
        if row in self.codes:
            return nearest(coco.decode(self.codes[row], *size), shown)
        scale = np.tile([shown[1] / size[1], shown[0] / size[0]], 1)
        polygons = [(self._polygon(one).reshape(-1, 2) * scale).ravel() for one in self._rows(row)]
        return coco.decode(polygons, *shown)

    def _rows(self, row: int) -> range:
        return range(int(self.starts[row]), int(self.starts[row + 1]))

    def _polygon(self, one: int) -> NDArray[np.float64]:
        return self.points[self.ends[one - 1] if one else 0 : self.ends[one]]


@dataclass(frozen=True)
class Objects:
    """Annotated images.

    Args:
        images: the files.
        ids: of the images, as the truth has them.
        sizes: height and width of each image, upright, (N, 2).
        starts: index of each image's first object, (N + 1,).
        boxes: (M, 4): x0, y0, x1, y1 in pixels from 0, the end not included.
        classes: (M,), ranks of the category ids.
        crowd: (M,): groups, which are not learned and do not hurt.
        difficult: (M,): learned, and not judged.
        areas: (M,), square pixels.
        regions: what each object covers; None: only boxes are known.
        names: of the classes.
        categories: ids of the classes in the truth.
        notes: how many annotations were left out, by the reason.
    """

    images: Source
    ids: Sequence[int | str]
    sizes: NDArray[np.int64]
    starts: NDArray[np.int64]
    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]
    crowd: Mask
    difficult: Mask
    areas: NDArray[np.float64]
    regions: Regions | None
    names: list[str]
    categories: list[int]
    notes: dict[str, int] = field(default_factory=dict[str, int])

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, index: int) -> range:
        """Return the objects of an image."""
        return range(int(self.starts[index]), int(self.starts[index + 1]))

    def size(self, index: int) -> tuple[int, int]:
        """Return height and width of an image, upright."""
        return int(self.sizes[index, 0]), int(self.sizes[index, 1])

    def learned(self) -> NDArray[np.int64]:
        """Return the images with an object that is no crowd, as training takes them."""
        counts = np.concatenate([[0], np.cumsum(~self.crowd)])
        return np.flatnonzero(counts[self.starts[1:]] > counts[self.starts[:-1]])

    def truth(self, images: Sequence[int]) -> dict[str, Any]:
        """Return images, annotations and categories of some images in the form of COCO's files."""
        annotations: list[dict[str, Any]] = []
        for index in images:
            for row in self.rows(index):
                x0, y0, x1, y1 = self.boxes[row].tolist()
                one: dict[str, Any] = {
                    "id": row + 1,  # pycocotools takes 0 for no match
                    "image_id": self.ids[index],
                    "category_id": self.categories[self.classes[row]],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": float(self.areas[row]),
                    "iscrowd": int(self.crowd[row]),
                }
                annotations.append(one if self.regions is None else one | {"segmentation": self.regions.region(row)})
        shown = [{"id": self.ids[one], "height": self.size(one)[0], "width": self.size(one)[1]} for one in images]
        kinds = [{"id": one, "name": name} for one, name in zip(self.categories, self.names, strict=True)]
        return {"images": shown, "annotations": annotations, "categories": kinds}

    def hash(self) -> str:
        """Return a hash of the images as they are, and of their annotations."""
        parts = [self.sizes, self.starts, self.boxes, self.classes, self.crowd, self.difficult, self.areas]
        own = [np.ascontiguousarray(one).tobytes() for one in parts]
        if self.regions is not None:
            own += [self.regions.points.tobytes(), self.regions.ends.tobytes(), repr(self.regions.codes).encode()]
        return hash_of([version_key(self.images).encode(), repr(self.names).encode(), *own])


def nearest(values: NDArray[Any], shown: tuple[int, int]) -> NDArray[Any]:
    """Return a map (H, W) at another height and width, each position the nearest: row ⌊y · H / h⌋.

    >>> nearest(np.array([[1, 2], [3, 4]]), (1, 4)).tolist()
    [[1, 1, 2, 2]]
    """
    down, across = (
        np.minimum((np.arange(new) * (old / new)).astype(np.int64), old - 1)
        for new, old in zip(shown, values.shape[:2], strict=True)
    )
    return values[down[:, None], across]
