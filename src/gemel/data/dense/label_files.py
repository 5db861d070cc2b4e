"""Label maps as VOC, SBD and Cityscapes come, and as one's own set may."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemel.data.dense.label_maps import FileLabels, Labels
from gemel.data.downstream.matlab import variables
from gemel.data.downstream.parts import Layout, folder_of, lines_of
from gemel.data.downstream.voc import CLASSES
from gemel.data.listing import SUFFIXES, Paths
from gemel.data.sources import FileSource
from gemel.errors import UserError
from gemel.metrics.dense.miou import IGNORED

VOC_NAMES = ["background", *CLASSES]

CITY_NAMES = [
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
]  # fmt: skip

CITY_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""labelIds of the judged classes, in the order of `CITY_NAMES`"""

Pair = tuple[FileLabels, FileLabels]
"""to learn from, and to be judged by"""


class _SbdLabels(FileLabels):
    """VOC's own label map where there is one, else SBD's in a MATLAB file."""

    def read(self, index: int) -> Labels:
        """Return the label map."""
        file = self.files[index]
        if file.suffix != ".mat":
            return super().read(index)
        (found,) = variables(self._described, file, "GTcls")
        return np.asarray(found["Segmentation"].item(), np.uint8)


def voc2012(described: Layout, root: Path) -> Pair:
    """Return VOC 2012's label maps: train and val."""
    base, lists = _voc(described, root)
    train, val = (_labels(described, base, [_of_voc(base, one) for one in names], VOC_NAMES) for names in lists)
    return train, val


def voc2012aug(described: Layout, root: Path) -> Pair:
    """Return VOC's train and SBD's images without VOC's val, to learn from; VOC's val, to be judged by.

    VOC's own label maps are taken where there are any: SBD's have no ignored borders.
    """
    base, (train, val) = _voc(described, root)
    own, judged = set(train), set(val)
    more = base / "SegmentationClassAug"
    if more.is_dir():
        names = sorted({file.stem for file in more.glob("*.png")} - judged - own)
        pairs = [(base / "JPEGImages" / f"{one}.jpg", more / f"{one}.png") for one in names]
    else:
        sbd = folder_of(described, root, ["benchmark_RELEASE/dataset"], ["cls", "train.txt", "val.txt"])
        listed = {one for part in ("train", "val") for one in lines_of(described, sbd / f"{part}.txt")}
        names = sorted(listed - judged - own)
        pairs = [(base / "JPEGImages" / f"{one}.jpg", sbd / "cls" / f"{one}.mat") for one in names]
    first = [_of_voc(base, one) for one in train]
    return (
        _labels(described, root, [*first, *pairs], VOC_NAMES, kind=_SbdLabels),
        _labels(described, root, [_of_voc(base, one) for one in val], VOC_NAMES),
    )


def cityscapes(described: Layout, root: Path) -> Pair:
    """Return Cityscapes' train and val; labelTrainIds are taken where they are, else labelIds through a table."""
    base = folder_of(described, root, ["cityscapes"], ["leftImg8bit/train", "leftImg8bit/val", "gtFine"])
    found: list[FileLabels] = []
    for part in ("train", "val"):
        images = sorted((base / "leftImg8bit" / part).glob("*/*_leftImg8bit.png"))
        stems = [base / "gtFine" / part / one.parent.name / one.name.removesuffix("_leftImg8bit.png") for one in images]
        trained = bool(stems) and stems[0].with_name(f"{stems[0].name}_gtFine_labelTrainIds.png").is_file()
        kind = "labelTrainIds" if trained else "labelIds"
        pairs = [
            (one, stem.with_name(f"{stem.name}_gtFine_{kind}.png")) for one, stem in zip(images, stems, strict=True)
        ]
        found.append(_labels(described, base, pairs, CITY_NAMES, table=None if trained else _city_table()))
    return found[0], found[1]


def masks(described: Layout, root: Path) -> Pair:
    """Return one's own images and label maps of the same names, and the classes of classes.txt."""
    base = folder_of(
        described, root, ["masks"], ["images/train", "images/val", "labels/train", "labels/val", "classes.txt"]
    )
    names = lines_of(described, base / "classes.txt")
    if not 2 <= len(names) <= IGNORED:
        raise UserError(f"{base / 'classes.txt'} names {len(names)} classes; there are 2 to {IGNORED}, one a line")
    found: list[FileLabels] = []
    for part in ("train", "val"):
        files = (base / "images" / part).iterdir()
        images = sorted(one for one in files if one.suffix[1:].lower().encode() in SUFFIXES)
        pairs = [(one, base / "labels" / part / f"{one.stem}.png") for one in images]
        found.append(_labels(described, base, pairs, names))
    return found[0], found[1]


def _voc(described: Layout, root: Path) -> tuple[Path, list[list[str]]]:
    needed = [f"ImageSets/Segmentation/{part}.txt" for part in ("train", "val")]
    base = folder_of(described, root, ["VOCdevkit/VOC2012", "VOC2012"], [*needed, "JPEGImages", "SegmentationClass"])
    return base, [lines_of(described, base / one) for one in needed]


def _of_voc(base: Path, name: str) -> tuple[Path, Path]:
    return base / "JPEGImages" / f"{name}.jpg", base / "SegmentationClass" / f"{name}.png"


def _city_table() -> Labels:
    table = np.full(256, IGNORED, np.uint8)
    table[list(CITY_IDS)] = np.arange(len(CITY_IDS))
    return table


def _labels(
    described: Layout,
    root: Path,
    pairs: Sequence[tuple[Path, Path]],
    names: list[str],
    *,
    table: Labels | None = None,
    kind: type[FileLabels] = FileLabels,
) -> FileLabels:
    """Return images with label maps, both of which must be there."""
    mistakes: list[str] = []
    for number, what in enumerate(("images", "label maps")):
        missing = [pair[number] for pair in pairs if not pair[number].is_file()]
        if missing:
            mistakes.append(
                f"{described.title}: {len(missing)} of {len(pairs)} {what} are missing, the first is {missing[0]}"
            )
    if not pairs:
        mistakes.append(f"{described.title}: no image in {root}; expected {described.layout}. {described.origin}")
    if mistakes:
        raise UserError(*mistakes)
    inside = [str(image.relative_to(root)).encode() for image, _ in pairs]
    source = FileSource(described.title, str(root), str(root), Paths.of(inside))
    return kind(described, source, [label for _, label in pairs], names, table)
