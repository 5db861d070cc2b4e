"""PASCAL VOC's boxes."""

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from gemel.data.dense.objects import Objects
from gemel.data.downstream.parts import Layout, folder_of, lines_of
from gemel.data.downstream.voc import CLASSES, annotation, class_of, is_difficult
from gemel.data.listing import Paths
from gemel.data.sources import FileSource
from gemel.errors import UserError

Parts = list[tuple[Path, list[str]]]
"""folders of VOC's years, each with the names of its images"""

Row = tuple[float, float, float, float]


def parts_of(described: Layout, root: Path, years: list[tuple[str, str]]) -> Parts:
    """Return the folders and names of some years' lists: (VOC2007, trainval), ...

    Raises:
        UserError: folders or lists are missing, which are all told.
    """
    found: Parts = []
    mistakes: list[str] = []
    for year, part in years:
        needed = [f"ImageSets/Main/{part}.txt", "Annotations", "JPEGImages"]
        try:
            base = folder_of(described, root, [f"VOCdevkit/{year}", year], needed)
            found.append((base, [line.split()[0] for line in lines_of(described, base / needed[0])]))
        except UserError as error:
            mistakes += error.mistakes
    if mistakes:
        raise UserError(*mistakes)
    return found


def read_objects(described: Layout, root: Path, parts: Parts) -> Objects:
    """Return the annotated images of some lists.

    Boxes become x0 - 1, y0 - 1, x1, y1 of VOC's, which count from 1 and include the last pixel.

    Raises:
        UserError: with every mistake in the annotations.
    """
    mistakes: list[str] = []
    found: list[_Annotated] = []
    for base, listed in parts:
        missing = [one for one in listed if not (base / "JPEGImages" / f"{one}.jpg").is_file()]
        if missing:
            first = f"the first is {missing[0]}.jpg"
            mistakes.append(f"{described.title}: {len(missing)} images of {base} are missing, {first}")
        below = base.relative_to(root) if base != root else "."
        for one in listed:
            try:
                found.append(
                    _annotated(described, base / "Annotations" / f"{one}.xml", f"{below}/JPEGImages/{one}.jpg")
                )
            except UserError as error:
                mistakes += error.mistakes
    if mistakes:
        raise UserError(*mistakes)
    boxes = np.array([box for one in found for box in one.boxes], np.float64).reshape(-1, 4)
    paths = Paths.of([one.image.encode() for one in found])
    return Objects(
        images=FileSource(described.title, str(root), str(root), paths),
        ids=[Path(one.image).stem for one in found],
        sizes=np.array([one.size for one in found], np.int64).reshape(-1, 2),
        starts=np.cumsum([0, *(len(one.boxes) for one in found)]).astype(np.int64),
        boxes=boxes,
        classes=np.array([number for one in found for number in one.classes], np.int64),
        crowd=np.zeros(len(boxes), bool),
        difficult=np.array([flag for one in found for flag in one.difficult], bool),
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(1),
        regions=None,
        names=list(CLASSES),
        categories=list(range(1, len(CLASSES) + 1)),
    )


class _Annotated(NamedTuple):
    """One image's annotation."""

    image: str
    """path below the root"""
    size: tuple[int, int]
    boxes: list[Row]
    classes: list[int]
    difficult: list[bool]


def _annotated(described: Layout, file: Path, image: str) -> _Annotated:
    tree = annotation(described, file)
    entries = tree.findall("object")
    boxes = [_box(described, file, one) for one in entries]
    classes = [class_of(described, file, one) for one in entries]
    return _Annotated(image, _size(tree), boxes, classes, [is_difficult(one) for one in entries])


def _box(described: Layout, file: Path, one: ElementTree.Element) -> Row:
    texts = [one.findtext(f"bndbox/{side}", "").strip() for side in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x0, y0, x1, y1 = (float(text) for text in texts)
    except ValueError as error:
        raise UserError(f"{described.title}: {file} has an object without a whole bndbox: {texts}") from error
    if not (x0 <= x1 and y0 <= y1 and np.isfinite([x0, y0, x1, y1]).all()):
        raise UserError(f"{described.title}: {file} has a box that ends before it begins: {texts}")
    return x0 - 1, y0 - 1, x1, y1


def _size(tree: ElementTree.Element) -> tuple[int, int]:
    """Return height and width; zeros where the file does not tell."""
    sides = [tree.findtext(f"size/{side}", "0").strip() for side in ("height", "width")]
    height, width = (int(side) if side.isdecimal() else 0 for side in sides)
    return height, width
