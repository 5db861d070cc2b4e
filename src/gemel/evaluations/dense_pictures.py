"""Pictures of found boxes, masks and label maps beside the truth."""

import base64
import colorsys
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from gemel.data.decode import Unreadable, load
from gemel.data.dense.label_maps import LabelMaps, Labels
from gemel.data.dense.objects import Objects
from gemel.data.listing import printable
from gemel.metrics.dense import coco
from gemel.metrics.dense.miou import IGNORED
from gemel.runs.files import write_text

SIDE = 320
"""longer side of a picture, pixels"""

LEAST = 0.5
"""score from which on a detection is drawn"""

SHADE = 0.45
"""share of the colour in a mask"""


class Drawn(NamedTuple):
    """One object on a picture."""

    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels of the image"""
    words: str
    number: int
    """of its class"""
    mask: NDArray[np.bool_] | None = None
    """(H, W)"""


def of_objects(objects: Objects, predictions: dict[int, list[dict[str, Any]]], count: int) -> list[dict[str, str]]:
    """Return pictures of a few images, evenly spread: path, truth and found as data URIs.

    Args:
        objects: the truth.
        predictions: of each judged image, by its index.
        count: images that are shown.
    """
    rank = {number: index for index, number in enumerate(objects.categories)}
    found: list[dict[str, str]] = []
    for index in _spread(sorted(predictions), count):
        try:
            image = load(objects.images, index)
        except Unreadable:
            continue
        size = (image.shape[0], image.shape[1])
        truth = [_of_truth(objects, row, size) for row in objects.rows(index)]
        seen = [_of_prediction(one, objects, rank, size) for one in predictions[index] if one["score"] >= LEAST]
        pictures = {"truth": data_uri(drawn(image, truth)), "found": data_uri(drawn(image, seen))}
        found.append({"path": printable(objects.images.path(index))} | pictures)
    return found


def of_labels(maps: LabelMaps, predicted: dict[int, Labels]) -> list[dict[str, str]]:
    """Return pictures of images with label maps: path, truth and found as data URIs."""
    found: list[dict[str, str]] = []
    for index, classes in predicted.items():
        image, truth = load(maps.images, index), maps.read(index)
        pictures = {"truth": data_uri(coloured(image, truth))}
        if classes.shape == image.shape[:2]:
            pictures["found"] = data_uri(coloured(image, classes))
        found.append({"path": printable(maps.images.path(index)), "found": ""} | pictures)
    return found


def spread_indices(count: int, wanted: int) -> list[int]:
    """Return a few of `count` indices, evenly spread."""
    return _spread(range(count), wanted)


def keep(folder: Path, name: str, pictures: Sequence[dict[str, str]]) -> None:
    """Write pictures for the report."""
    write_text(folder / name, json.dumps(list(pictures)))


def drawn(image: NDArray[np.uint8], objects: Sequence[Drawn]) -> Image.Image:
    """Return an image with masks, boxes and words on it, at most `SIDE` pixels wide and high, small ones enlarged."""
    pixels = np.array(Image.fromarray(image).convert("RGB"), np.float32)
    for one in objects:
        if one.mask is not None:
            pixels[one.mask] = pixels[one.mask] * (1 - SHADE) + np.array(colour(one.number)) * SHADE
    scale = SIDE / max(pixels.shape[:2])
    sides = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    picture = Image.fromarray(pixels.astype(np.uint8)).resize(sides, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for one in objects:
        box = [value * scale for value in one.box]
        pen.rectangle(
            [box[0], box[1], max(box[0], box[2] - 1), max(box[1], box[3] - 1)], outline=colour(one.number), width=2
        )
        _write(pen, one.words, (box[0], box[1]), colour(one.number))
    return picture


def coloured(image: NDArray[np.uint8], labels: Labels) -> Image.Image:
    """Return an image under the colours of its label map; class 0 and ignored pixels stay as they are."""
    pixels = np.array(Image.fromarray(image).convert("RGB"), np.float32)
    for number in np.unique(labels):
        if 0 < number < IGNORED:
            mask = labels == number
            pixels[mask] = pixels[mask] * (1 - SHADE) + np.array(colour(int(number))) * SHADE
    picture = Image.fromarray(pixels.astype(np.uint8))
    scale = SIDE / max(picture.size)
    sides = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(sides, Image.Resampling.BICUBIC)


def colour(number: int) -> tuple[int, int, int]:
    """Return the colour of a class: hues that neighbours don't share.

    >>> colour(0) != colour(1)
    True
    """
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.85, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)


def data_uri(picture: Image.Image) -> str:
    """Return a picture as a page holds it."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _write(pen: ImageDraw.ImageDraw, words: str, corner: tuple[float, float], fill: tuple[int, int, int]) -> None:
    if words:
        left, top, right, bottom = pen.textbbox(corner, words)
        pen.rectangle([left - 1, top - 1, right + 1, bottom + 1], fill=(0, 0, 0))
        pen.text(corner, words, fill=fill)


def _of_truth(objects: Objects, row: int, size: tuple[int, int]) -> Drawn:
    x0, y0, x1, y1 = objects.boxes[row].tolist()
    mask = None if objects.regions is None else objects.regions.mask(row, size, size)
    number = int(objects.classes[row])
    return Drawn((x0, y0, x1, y1), objects.names[number], number, mask)


def _of_prediction(one: dict[str, Any], objects: Objects, rank: dict[int, int], size: tuple[int, int]) -> Drawn:
    x, y, width, height = one["bbox"]
    number = rank[one["category_id"]]
    mask = coco.decode(one["segmentation"], *size) if "segmentation" in one else None
    return Drawn((x, y, x + width, y + height), f"{objects.names[number]} {one['score']:.2f}", number, mask)


def _spread(indices: Sequence[int], count: int) -> list[int]:
    places = np.unique(np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int))
    return [indices[place] for place in places.tolist()] if len(indices) else []
