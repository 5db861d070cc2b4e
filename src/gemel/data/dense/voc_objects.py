"""PASCAL VOC's boxes."""

from pathlib import Path
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
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    counts: list[int] = []
    rows: list[Row] = []
    classes: list[int] = []
    difficult: list[bool] = []
    for base, listed in parts:
        missing = [one for one in listed if not (base / "JPEGImages" / f"{one}.jpg").is_file()]
        if missing:
            mistakes.append(
                f"{described.title}: {len(missing)} images of {base} are missing, the first is {missing[0]}.jpg"
            )
        for one in listed:
            file = base / "Annotations" / f"{one}.xml"
            try:
                tree = annotation(described, file)
                found = tree.findall("object")
                rows += [_box(described, file, entry) for entry in found]
                classes += [class_of(described, file, entry) for entry in found]
            except UserError as error:
                mistakes += error.mistakes
                continue
            difficult += [is_difficult(entry) for entry in found]
            names.append(f"{base.relative_to(root) if base != root else '.'}/JPEGImages/{one}.jpg")
            sizes.append(_size(tree))
            counts.append(len(found))
    if mistakes:
        raise UserError(*mistakes)
    boxes = np.array(rows, np.float64).reshape(-1, 4)
    return Objects(
        images=FileSource(described.title, str(root), str(root), Paths.of([one.encode() for one in names])),
        ids=[Path(one).stem for one in names],
        sizes=np.array(sizes, np.int64).reshape(-1, 2),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=boxes,
        classes=np.array(classes, np.int64),
        crowd=np.zeros(len(boxes), bool),
        difficult=np.array(difficult, bool),
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(1),
        regions=None,
        names=list(CLASSES),
        categories=list(range(1, len(CLASSES) + 1)),
    )


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
