"""Views of images with boxes: resized by the shorter side, flipped."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gemel.data.dense.objects import Mask, Objects
from gemel.data.views import dense_generator

Pixels = NDArray[np.uint8]


class BoxView(NamedTuple):
    """What is done to an image: resized to height and width, then flipped from left to right or not."""

    height: int
    width: int
    flip: bool


class Shown(NamedTuple):
    """The objects of a view."""

    boxes: NDArray[np.float32]
    """(n, 4) in pixels of the view"""
    classes: NDArray[np.int64]
    masks: Mask | None
    """(n, height, width)"""


def resized_sides(size: tuple[int, int], shorter: int, longest: int) -> tuple[int, int]:
    """Return height and width of an image whose shorter side is resized, less where the longer one would be too long.

    >>> resized_sides((375, 500), 800, 1333), resized_sides((100, 400), 800, 1333)
    ((800, 1067), (333, 1333))
    """
    scale = min(shorter / min(size), longest / max(size))
    height, width = (int(side * scale + 0.5) for side in size)
    return height, width


def draw_view(
    sides: Sequence[int], longest: int, size: tuple[int, int], *, seed: int, epoch: int, index: int
) -> BoxView:
    """Draw the view of an image: a shorter side, flipped by chance one half.

    Args:
        sides: that the shorter one is drawn from, pixels.
        longest: of the longer one, pixels.
        size: height and width of the image.
        seed: with the next two, what the draw is a function of.
        epoch: pass over the images.
        index: of the image.
    """
    random = dense_generator(seed=seed, epoch=epoch, index=index)
    height, width = resized_sides(size, sides[int(random.integers(len(sides)))], longest)
    return BoxView(height, width, bool(random.random() < 0.5))


def put(image: Pixels, view: BoxView) -> Pixels:
    """Return a view's pixels, (3, height, width), of an image (H, W) or (H, W, 3); bilinear as Pillow's."""
    picture = Image.fromarray(image).convert("RGB").resize((view.width, view.height), Image.Resampling.BILINEAR)
    planes = np.asarray(picture).transpose(2, 0, 1)
    return np.ascontiguousarray(planes[:, :, ::-1] if view.flip else planes)


def show(objects: Objects, index: int, view: BoxView, *, masks: bool) -> Shown:
    """Return an image's objects as the view shows them; crowds, and boxes that it leaves without area, are dropped."""
    rows = np.array([row for row in objects.rows(index) if not objects.crowd[row]], np.int64)
    height, width = objects.size(index)
    boxes = objects.boxes[rows] * np.tile([view.width / width, view.height / height], 2)
    boxes = np.clip(boxes, 0, np.tile([view.width, view.height], 2))
    if view.flip:
        boxes[:, [0, 2]] = view.width - boxes[:, [2, 0]]
    kept = (boxes[:, 2:] - boxes[:, :2] > 1e-5).all(1)
    rows, boxes = rows[kept], boxes[kept].astype(np.float32)
    return Shown(boxes, objects.classes[rows], _masks(objects, rows, view, (height, width)) if masks else None)


def _masks(objects: Objects, rows: NDArray[np.int64], view: BoxView, size: tuple[int, int]) -> Mask:
    assert objects.regions is not None
    shown = (view.height, view.width)
    found = [objects.regions.mask(row, size, shown) for row in rows.tolist()]
    stacked = np.stack(found) if found else np.zeros((0, *shown), bool)
    return np.ascontiguousarray(stacked[:, :, ::-1]) if view.flip else stacked
