"""PASCAL VOC 2007 as a dataset of images that hold several classes."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from gemel.data.downstream.parts import Described, Downstream, Layout, files, folder_of, lines_of, malformed

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def annotation(described: Layout, file: Path) -> ElementTree.Element:
    """Return the root of an image's annotation.

    Raises:
        UserError: it is missing, is no XML, or holds an entity: entities of entities fill the memory.
    """
    try:
        if "<!ENTITY" in file.read_text(encoding="utf-8", errors="replace"):
            raise malformed(described, file, "an entity")
        return ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise malformed(described, file, str(error)) from error


def class_of(described: Layout, file: Path, one: ElementTree.Element) -> int:
    """Return the class of an object.

    Raises:
        UserError: VOC has none of that name.
    """
    name = one.findtext("name", "").strip()
    if name not in CLASSES:
        raise malformed(described, file, name)
    return CLASSES.index(name)


def is_difficult(one: ElementTree.Element) -> bool:
    """Return whether an object is marked as difficult."""
    return one.findtext("difficult", "0").strip() == "1"


def _targets(described: Described, file: Path) -> NDArray[np.int64]:
    """Return targets: 1 where there is an object that is not difficult, -1 where only difficult ones, else 0."""
    targets = np.zeros(len(CLASSES), np.int64)
    for one in annotation(described, file).findall("object"):
        label = class_of(described, file, one)
        targets[label] = 1 if targets[label] == 1 or not is_difficult(one) else -1
    return targets


def _voc2007(described: Described, root: Path, seed: int) -> Downstream:
    del seed  # the split is official
    needed = [f"ImageSets/Main/{part}.txt" for part in ("train", "val", "test")]
    base = folder_of(described, root, ["VOCdevkit/VOC2007", "VOC2007"], [*needed, "JPEGImages", "Annotations"])
    names: list[str] = list(CLASSES)
    lists = [[line.split()[0] for line in lines_of(described, base / file)] for file in needed]
    train, val, test = (
        files(described, base, [(f"JPEGImages/{one}.jpg", 0) for one in listed], names) for listed in lists
    )
    for source in (train, val, test):
        source.labels = None  # the classes of an image are in the targets
    first, second, last = (
        np.stack([_targets(described, base / "Annotations" / f"{one}.xml") for one in listed]) for listed in lists
    )
    return Downstream(described, names, train, val, test, "official", (first, second, last))


SETS = (
    Described(
        "voc2007", "VOC2007", 20, "map11",
        "VOCdevkit/VOC2007/ImageSets/Main/{train,val,test}.txt, Annotations/*.xml, JPEGImages/*.jpg",
        "Unpack VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar of http://host.robots.ox.ac.uk/pascal/VOC/voc2007/.",
        (2_501, 2_510, 4_952), _voc2007,
    ),
)  # fmt: skip
