"""Scenes of shapes on noise in the layouts of VOC, COCO, Cityscapes and of one's own sets."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from gemel.metrics.dense import coco

NAMES = ["circle", "square", "triangle"]
VOC_NAMES = ["cat", "dog", "person"]
COLOURS = [(220, 40, 40), (40, 200, 60), (60, 80, 230)]
CATEGORIES = [1, 3, 90]
CITY_IDS = [7, 26, 33]  # road, car, bicycle


class Shape(NamedTuple):
    kind: int
    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 from 0, the end not included: exact"""
    mask: NDArray[np.bool_]
    polygon: list[float]


class Scene(NamedTuple):
    image: NDArray[np.uint8]
    shapes: list[Shape]


def scene(seed: int, side: int = 128, count: int | None = None) -> Scene:
    """1 to 4 shapes that don't overlap."""
    random = np.random.default_rng(seed)
    image = random.integers(90, 160, (side, side, 3)).astype(np.uint8)
    shapes: list[Shape] = []
    taken = np.zeros((side, side), bool)
    for _ in range(int(random.integers(1, 5)) if count is None else count):
        for _ in range(50):
            size = int(random.integers(side // 5, side // 3))
            left, top = (int(one) for one in random.integers(0, side - size, 2))
            if not taken[top : top + size, left : left + size].any():
                kind = int(random.integers(3))
                shapes.append(draw(image, kind, left, top, size))
                taken[top : top + size, left : left + size] = True
                break
    return Scene(image, shapes)


def draw(image: NDArray[np.uint8], kind: int, left: int, top: int, size: int) -> Shape:
    if kind == 0:
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        points = [((np.cos(one) + 1) * size / 2 + left, (np.sin(one) + 1) * size / 2 + top) for one in angles]
    elif kind == 1:
        points = [(left, top), (left + size, top), (left + size, top + size), (left, top + size)]
    else:
        points = [(left + size / 2, top), (left + size, top + size), (left, top + size)]
    polygon = [float(round(value, 2)) for point in points for value in point]
    mask = coco.decode([polygon], *image.shape[:2])
    image[mask] = np.clip(COLOURS[kind] + np.random.default_rng(size).normal(0, 8, (int(mask.sum()), 3)), 0, 255)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return Shape(kind, box, mask, polygon)


def label_map(one: Scene, *, border: bool = False) -> NDArray[np.uint8]:
    """0 the background, then the shapes; with a border of 255 around each."""
    labels = np.zeros(one.image.shape[:2], np.uint8)
    for shape in one.shapes:
        labels[shape.mask] = shape.kind + 1
        if border:
            x0, y0, x1, y1 = shape.box
            ImageDraw.Draw(picture := Image.fromarray(labels)).rectangle((x0, y0, x1 - 1, y1 - 1), outline=255)
            labels = np.array(picture)
    return labels


def save(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, quality=95)


def text(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def voc(root: Path, counts: tuple[int, int] = (4, 3), side: int = 64) -> list[Scene]:
    """VOC 2007, and 2012 with one image; boxes from 1, the last pixel included; a fourth object is difficult."""
    found: list[Scene] = []
    for year, parts in (("VOC2007", ("trainval", "test")), ("VOC2012", ("trainval",))):
        base = root / "VOCdevkit" / year
        for part in parts:
            count = counts[part == "test"] if year == "VOC2007" else 1
            names = [f"{year[3:]}_{part}{number}" for number in range(count)]
            text(base / "ImageSets/Main" / f"{part}.txt", names)
            for name in names:
                found.append(scene(len(found), side))
                save(base / "JPEGImages" / f"{name}.jpg", found[-1].image)
                text(base / "Annotations" / f"{name}.xml", [voc_xml(found[-1])])
    return found


def voc_xml(one: Scene) -> str:
    objects = ""
    for number, shape in enumerate(one.shapes):
        x0, y0, x1, y1 = shape.box
        box = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        objects += (
            f"<object><name>{VOC_NAMES[shape.kind]}</name><difficult>{int(number == 3)}</difficult>"
            f"<bndbox>{box}</bndbox></object>"
        )
    height, width = one.image.shape[:2]
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{objects}</annotation>"


def coco_file(scenes: list[Scene], names: list[str]) -> dict[str, Any]:
    """Polygons and run lengths in turn."""
    annotations: list[dict[str, Any]] = []
    for image, one in enumerate(scenes):
        for shape in one.shapes:
            x0, y0, x1, y1 = shape.box
            plain = len(annotations) % 2 == 0
            annotations.append({
                "id": len(annotations) + 1, "image_id": 10 + image, "category_id": CATEGORIES[shape.kind], "iscrowd": 0,
                "bbox": [x0, y0, x1 - x0, y1 - y0], "area": int(shape.mask.sum()),
                "segmentation": [shape.polygon] if plain else coco.encode(shape.mask),
            })  # fmt: skip
    images = [
        {"id": 10 + number, "file_name": name, "height": one.image.shape[0], "width": one.image.shape[1]}
        for number, (one, name) in enumerate(zip(scenes, names, strict=True))
    ]
    kinds = [{"id": one, "name": name} for one, name in zip(CATEGORIES, NAMES, strict=True)]
    return {"images": images, "annotations": annotations, "categories": kinds}


def boxes(root: Path, counts: tuple[int, int] = (4, 3), side: int = 64, first: int = 0) -> list[list[Scene]]:
    """A set of one's own: train.json, val.json, images in train/ and val/."""
    found: list[list[Scene]] = []
    for part, count in zip(("train", "val"), counts, strict=True):
        scenes = [scene(first + 100 * len(found) + number, side) for number in range(count)]
        names = [f"{number:03}.png" for number in range(count)]
        for name, one in zip(names, scenes, strict=True):
            save(root / part / name, one.image)
        (root / f"{part}.json").write_text(json.dumps(coco_file(scenes, names)), encoding="utf-8")
        found.append(scenes)
    return found


def coco2017(root: Path) -> None:
    for part in ("train", "val"):
        scenes = [scene(number, 48) for number in range(2)]
        names = [f"{number:012}.jpg" for number in range(2)]
        for name, one in zip(names, scenes, strict=True):
            save(root / f"{part}2017" / name, one.image)
        file = root / "annotations" / f"instances_{part}2017.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(coco_file(scenes, names)), encoding="utf-8")


def voc_labels(root: Path, side: int = 64) -> list[Scene]:
    """VOC 2012's palette images, with borders that don't count."""
    base = root / "VOCdevkit/VOC2012"
    scenes = [scene(number, side) for number in range(5)]
    parts = {"train": ["t0", "t1", "t2"], "val": ["v0", "v1"]}
    for part, names in parts.items():
        text(base / "ImageSets/Segmentation" / f"{part}.txt", names)
    for name, one in zip([*parts["train"], *parts["val"]], scenes, strict=True):
        save(base / "JPEGImages" / f"{name}.jpg", one.image)
        palette(base / "SegmentationClass" / f"{name}.png", label_map(one, border=True))
    return scenes


def palette(path: Path, labels: NDArray[np.uint8]) -> None:
    """Colours that have nothing to do with the classes: the index counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(labels, "L")
    picture.putpalette([value for one in range(256) for value in (255 - one, one * 7 % 256, one * 31 % 256)])
    picture.save(path)


def cityscapes(root: Path, *, train_ids: bool = False) -> list[Scene]:
    scenes = [scene(number, 64) for number in range(4)]
    table = np.full(256, 255, np.uint8)
    table[[0, 1, 2, 3]] = [255, 0, 13, 18] if train_ids else [0, *CITY_IDS]
    kind = "labelTrainIds" if train_ids else "labelIds"
    for number, one in enumerate(scenes):
        part, stem = ("train", "val")[number % 2], f"town_{number:06}_000019"
        save(root / "leftImg8bit" / part / "town" / f"{stem}_leftImg8bit.png", one.image)
        save(root / "gtFine" / part / "town" / f"{stem}_gtFine_{kind}.png", table[label_map(one)])
    return scenes


def masks(root: Path, counts: tuple[int, int] = (4, 3), side: int = 64, first: int = 0) -> list[Scene]:
    """A set of one's own."""
    text(root / "classes.txt", ["nothing", *NAMES])
    found: list[Scene] = []
    for part, count in zip(("train", "val"), counts, strict=True):
        for number in range(count):
            found.append(scene(first + len(found), side))
            save(root / "images" / part / f"{number}.png", found[-1].image)
            save(root / "labels" / part / f"{number}.png", label_map(found[-1]))
    return found
