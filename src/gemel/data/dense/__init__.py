"""Sets of boxes, masks and label maps, read from the folders in which their authors leave them; see docs/dense.md.

Nothing is downloaded, and no checksum is verified: parts of a set, and sets of one's own in the same layout, are read
as well.
"""

from pathlib import Path
from typing import Literal

from gemel.data.dense import coco_json, digit_scenes, label_files, voc_objects
from gemel.data.dense.objects import Objects
from gemel.data.dense.sets import DescribedSet, LabelSet, ObjectSet
from gemel.data.downstream.parts import folder_of
from gemel.errors import UserError, unknown

Task = Literal["detection", "segmentation"]

_VOC = "VOCdevkit/VOC2007/{ImageSets/Main/{trainval,test}.txt, Annotations/*.xml, JPEGImages/*.jpg}"
_VOC_ORIGIN = "Unpack the archives of http://host.robots.ox.ac.uk/pascal/VOC/voc2007/ and voc2012/."
_YEARS = [("VOC2007", "trainval"), ("VOC2012", "trainval")]


def _voc(described: DescribedSet, root: Path, seed: int) -> ObjectSet:
    del seed  # the split is official
    years = _YEARS if described.name == "voc0712" else _YEARS[:1]
    mistakes: list[str] = []
    found: list[Objects] = []
    for wanted in (years, [("VOC2007", "test")]):
        try:
            found.append(voc_objects.read_objects(described, root, voc_objects.parts_of(described, root, wanted)))
        except UserError as error:
            mistakes += error.mistakes
    return _object_set(described, found, mistakes)


def _coco(described: DescribedSet, root: Path, seed: int) -> ObjectSet:
    del seed  # the split is official
    own = described.name == "boxes"
    files = ["train.json", "val.json"] if own else [f"annotations/instances_{one}2017.json" for one in ("train", "val")]
    base = folder_of(described, root, [described.name], files)
    mistakes: list[str] = []
    found: list[Objects] = []
    for file, part in zip(files, ("train", "val"), strict=True):
        folders = [base / part, base] if own else [base / f"{part}2017"]
        try:
            found.append(coco_json.read_objects(described, base / file, folders))
        except UserError as error:
            mistakes += error.mistakes
    return _object_set(described, found, mistakes)


def _object_set(described: DescribedSet, found: list[Objects], mistakes: list[str]) -> ObjectSet:
    if not mistakes:
        train, judged = found
        if train.categories != judged.categories or train.names != judged.names:
            mistakes.append(f"{described.title}: the parts to learn from and to be judged by have other categories")
        mistakes += [
            f"{described.title}: no object in the part to {what}"
            for what, one in (("learn from", train), ("be judged by", judged))
            if not len(one.learned())
        ]
    if mistakes:
        raise UserError(*mistakes)
    return ObjectSet(described, found[0], found[1])


def _digit_objects(described: DescribedSet, root: Path, seed: int) -> ObjectSet:
    del root  # there are no files
    return ObjectSet(described, *(digit_scenes.objects_of(judged, seed) for judged in (False, True)))


def _digit_labels(described: DescribedSet, root: Path, seed: int) -> LabelSet:
    del root  # there are no files
    return LabelSet(described, *(digit_scenes.labels_of(judged, seed) for judged in (False, True)))


def _label_set(described: DescribedSet, root: Path, seed: int) -> LabelSet:
    del seed  # the split is official
    return LabelSet(described, *getattr(label_files, described.name)(described, root))


_NONE = "nothing: the scenes are made from the seed"

_SETS = (
    DescribedSet(
        "voc0712", "VOC07+12", "detection", f"{_VOC}, and the same of VOC2012", _VOC_ORIGIN, (16_551, 4_952), _voc,
        "voc",
    ),
    DescribedSet("voc2007", "VOC07", "detection", _VOC, _VOC_ORIGIN, (5_011, 4_952), _voc, "voc"),
    DescribedSet(
        "coco", "COCO", "detection", "annotations/instances_{train,val}2017.json, train2017/*.jpg, val2017/*.jpg",
        "Unpack train2017.zip, val2017.zip and annotations_trainval2017.zip of https://cocodataset.org/#download.",
        (118_287, 5_000), _coco, "coco",
    ),
    DescribedSet(
        "boxes", "Boxes", "detection", "train.json and val.json in COCO's form, images in train/ and val/",
        "Any images with such annotations.", (0, 0), _coco, "coco",
    ),
    DescribedSet(
        "digit-scenes", "Digit scenes", "detection", _NONE, "", digit_scenes.COUNTS, _digit_objects, "coco", False
    ),
    DescribedSet(
        "voc2012", "VOC", "segmentation",
        "VOCdevkit/VOC2012/{ImageSets/Segmentation/{train,val}.txt, SegmentationClass/*.png, JPEGImages/*.jpg}",
        _VOC_ORIGIN, (1_464, 1_449), _label_set, "miou",
    ),
    DescribedSet(
        "voc2012aug", "VOC", "segmentation",
        "that of voc2012, and VOCdevkit/VOC2012/SegmentationClassAug/*.png or benchmark_RELEASE/dataset/{cls/*.mat, "
        "train.txt, val.txt}",
        "SBD: https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/.",
        (10_582, 1_449), _label_set, "miou",
    ),
    DescribedSet(
        "cityscapes", "Cityscapes", "segmentation",
        "leftImg8bit/{train,val}/CITY/*_leftImg8bit.png, gtFine/{train,val}/CITY/*_gtFine_labelIds.png",
        "Unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of https://www.cityscapes-dataset.com.",
        (2_975, 500), _label_set, "miou",
    ),
    DescribedSet(
        "masks", "Masks", "segmentation",
        "images/{train,val}/*, labels/{train,val}/*.png of the same names (bytes: class, 255 ignored), classes.txt",
        "Any images with such label maps.", (0, 0), _label_set, "miou",
    ),
    DescribedSet(
        "digit-scenes", "Digit scenes", "segmentation", _NONE, "", digit_scenes.COUNTS, _digit_labels, "miou", False
    ),
)  # fmt: skip


def available(task: Task) -> list[str]:
    """Return the names of the sets for a task."""
    return [one.name for one in _SETS if one.task == task]


def described(task: Task, data: str | None, root: Path | None) -> DescribedSet:
    """Return what is known of the set that the user's words mean.

    Raises:
        UserError: no or unknown name; no folder where one is needed, or one where there is none.
    """
    names = available(task)
    if not data:
        raise UserError(f"name a set with --data: {', '.join(names)}; digit-scenes needs no files")
    if data not in names:
        raise UserError(unknown("--data", data, names))
    found = next(one for one in _SETS if one.task == task and one.name == data)
    if found.needs_root and root is None:
        raise UserError(f"give the folder that holds {found.layout} with --root FOLDER; nothing is downloaded")
    if not found.needs_root and root is not None:
        raise UserError(f"--data {data} is made from the seed; leave out --root")
    if found.needs_root and root is not None and not root.is_dir():
        raise UserError(f"--root {root} is no folder; give the one that holds {found.layout}. {found.origin}")
    return found


def open_objects(one: DescribedSet, root: Path | None, *, seed: int = 0) -> ObjectSet:
    """Return the boxes and masks of a set.

    Raises:
        UserError: with every mistake in its files.
    """
    return one.read(one, (root or Path()).absolute(), seed)


def open_labels(one: DescribedSet, root: Path | None, *, seed: int = 0) -> LabelSet:
    """Return the label maps of a set.

    Raises:
        UserError: with every mistake in its files.
    """
    return one.read(one, (root or Path()).absolute(), seed)
