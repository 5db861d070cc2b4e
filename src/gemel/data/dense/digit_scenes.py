"""digit-scenes: real handwritten digits pasted on noise, with exact boxes, masks and label maps; made from a seed."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gemel.data.datasets import load
from gemel.data.dense.label_maps import ArrayLabels
from gemel.data.dense.objects import Objects, Regions
from gemel.data.sources import ArraySource
from gemel.metrics.dense import coco

SIDE = 96
"""of a scene, pixels"""

COUNTS = (200, 100)
"""scenes to learn from and to be judged by; no digit is in both"""

OBJECTS = (3, 8)
"""digits in a scene"""

SIDES = (12, 32)
"""of a digit, pixels"""

INK = 64
"""a pixel belongs to a digit from this darkness on, of 255"""

TRIES = 20
"""positions that are tried for a digit, until it overlaps none"""

CLASSES = [str(digit) for digit in range(10)]


class Scenes(NamedTuple):
    """Scenes and what is on them."""

    images: NDArray[np.uint8]
    """(N, SIDE, SIDE, 3)"""
    labels: NDArray[np.uint8]
    """(N, SIDE, SIDE): 0 the background, digit + 1"""
    objects: list[list[tuple[int, NDArray[np.bool_]]]]
    """of each scene: digits and their masks, (SIDE, SIDE)"""


@lru_cache(maxsize=4)
def scenes(judged: bool, seed: int) -> Scenes:
    """Return the scenes to learn from, or to be judged by, of a seed."""
    loaded = load("digits", "train")
    labels = loaded.labels
    assert labels is not None
    own = np.arange(len(labels)) % 3 == 2  # a third of the digits are for the judged scenes
    chosen = np.flatnonzero(own if judged else ~own)
    random = np.random.default_rng([seed, int(judged)])
    count = COUNTS[int(judged)]
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    maps = np.zeros((count, SIDE, SIDE), np.uint8)
    objects: list[list[tuple[int, NDArray[np.bool_]]]] = []
    for number in range(count):
        canvas = _background(random)
        placed: list[tuple[int, NDArray[np.bool_]]] = []
        for _ in range(int(random.integers(OBJECTS[0], OBJECTS[1] + 1))):
            index = int(random.choice(chosen))
            mask = _paste(canvas, loaded.images[index], maps[number] > 0, random)
            if mask is not None:
                digit = int(labels[index])
                placed.append((digit, mask))
                maps[number][mask] = digit + 1
        images[number] = np.clip(canvas, 0, 255).astype(np.uint8)
        objects.append(placed)
    return Scenes(images, maps, objects)


def objects_of(judged: bool, seed: int) -> Objects:
    """Return the scenes with boxes and masks.

    Raises:
        UserError: pycocotools is missing.
    """
    made = scenes(judged, seed)
    found = [one for scene in made.objects for one in scene]
    boxes = np.array([_box(mask) for _, mask in found], np.float64).reshape(-1, 4)
    counts = [len(scene) for scene in made.objects]
    none = np.zeros(0)
    return Objects(
        images=_source(made, judged, seed),
        ids=list(range(len(counts))),
        sizes=np.full((len(counts), 2), SIDE, np.int64),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=boxes,
        classes=np.array([digit for digit, _ in found], np.int64),
        crowd=np.zeros(len(found), bool),
        difficult=np.zeros(len(found), bool),
        areas=np.array([mask.sum() for _, mask in found], np.float64),
        regions=Regions(
            none,
            none.astype(np.int64),
            np.zeros(len(found) + 1, np.int64),
            {row: coco.encode(mask) for row, (_, mask) in enumerate(found)},
        ),
        names=CLASSES,
        categories=list(range(1, len(CLASSES) + 1)),
    )


def labels_of(judged: bool, seed: int) -> ArrayLabels:
    """Return the scenes with label maps: the background and ten digits."""
    made = scenes(judged, seed)
    return ArrayLabels(_source(made, judged, seed), made.labels, ["background", *CLASSES])


def _source(made: Scenes, judged: bool, seed: int) -> ArraySource:
    return ArraySource(f"digit-scenes:{'judged' if judged else 'train'}:{seed}", made.images)


def _background(random: np.random.Generator) -> NDArray[np.float64]:
    """Return a smooth dark field of colour with noise on it, (SIDE, SIDE, 3)."""
    coarse = random.integers(0, 110, (4, 4, 3)).astype(np.uint8)
    field = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)
    return field + random.normal(0, 12, (SIDE, SIDE, 3))


def _paste(
    canvas: NDArray[np.float64], digit: NDArray[np.uint8], taken: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.bool_] | None:
    """Draw a digit in a light colour where it overlaps none; return its mask, None where there is no room."""
    side = int(random.integers(SIDES[0], SIDES[1] + 1))
    ink = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BILINEAR), np.float64)
    colour = random.uniform(150, 255, 3)
    mask = ink >= INK
    if not mask.any():
        return None
    for _ in range(TRIES):
        top, left = random.integers(0, SIDE - side + 1, 2)
        place = np.s_[top : top + side, left : left + side]
        if not taken[place].any():
            share = (ink / 255)[..., None]
            canvas[place] = canvas[place] * (1 - share) + colour * share
            whole = np.zeros((SIDE, SIDE), bool)
            whole[place] = mask
            return whole
    return None


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
