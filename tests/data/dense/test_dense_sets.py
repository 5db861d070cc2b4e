"""Readers of boxes, masks and label maps: every layout, perfect predictions, and what can be wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import dense_layouts as layouts
from gemel.data import dense
from gemel.data.dense.checks import check_labels, check_objects
from gemel.data.dense.digit_scenes import COUNTS, SIDE
from gemel.data.dense.label_maps import LabelMaps
from gemel.data.dense.objects import Objects
from gemel.data.dense.sets import LabelSet, ObjectSet
from gemel.errors import UserError
from gemel.evaluations.protocols.detection import coco_scores, voc_scores
from gemel.metrics.dense import coco, miou


def objects(name: str, root: Path | None) -> ObjectSet:
    return dense.open_objects(dense.described("detection", name, root), root)


def labels(name: str, root: Path | None) -> LabelSet:
    return dense.open_labels(dense.described("segmentation", name, root), root)


def perfect(one: Objects) -> list[dict[str, Any]]:
    """The truth as predictions."""
    rows: list[dict[str, Any]] = []
    for index in range(len(one)):
        for row in one.rows(index):
            x0, y0, x1, y1 = one.boxes[row].tolist()
            rows.append({
                "image_id": one.ids[index], "category_id": one.categories[one.classes[row]], "score": 0.9,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
            })  # fmt: skip
            if one.regions is not None:
                rows[-1]["segmentation"] = coco.encode(one.regions.mask(row, one.size(index), one.size(index)))
    return rows


def test_voc(tmp_path: Path) -> None:
    scenes = layouts.voc(tmp_path)
    sets = objects("voc0712", tmp_path)
    assert (len(sets.train), len(sets.judged)) == (5, 3)
    assert sets.train.ids[-1] == "2012_trainval0"
    assert [tuple(one) for one in sets.train.boxes[: len(scenes[0].shapes)].astype(int)] == [
        shape.box for shape in scenes[0].shapes
    ]
    wanted = [layouts.VOC_NAMES[shape.kind] for one in [*scenes[:4], scenes[-1]] for shape in one.shapes]
    assert [sets.train.names[one] for one in sets.train.classes] == wanted
    fourth = [len(one.shapes) > 3 for one in [*scenes[:4], scenes[-1]]]
    assert [bool(sets.train.difficult[sets.train.rows(index)].any()) for index in range(5)] == fourth
    assert any(fourth)
    assert sets.train.categories[0] == 1
    assert len(objects("voc2007", tmp_path).train) == 4
    metrics, empty = voc_scores(sets.judged, [0, 1, 2], perfect(sets.judged))
    assert metrics == pytest.approx({"ap": 1, "ap50": 1, "ap75": 1, "ap50_area": 1})
    assert len(empty) >= 17


def test_coco_and_own_boxes(tmp_path: Path) -> None:
    layouts.coco2017(tmp_path / "coco")
    assert len(objects("coco", tmp_path).train) == 2
    scenes = layouts.boxes(tmp_path / "own")
    sets = objects("boxes", tmp_path / "own")
    judged = sets.judged
    assert judged.names == layouts.NAMES
    assert judged.categories == [1, 3, 90]
    shapes = [shape for one in scenes[1] for shape in one.shapes]
    assert [tuple(one) for one in judged.boxes.astype(int)] == [shape.box for shape in shapes]
    assert judged.classes.tolist() == [shape.kind for shape in shapes]
    assert judged.regions is not None
    for index, one in enumerate(scenes[1]):
        for row, shape in zip(judged.rows(index), one.shapes, strict=True):
            assert (judged.regions.mask(row, (64, 64), (64, 64)) == shape.mask).all()
            half = judged.regions.mask(row, (64, 64), (32, 32))
            assert half.sum() == pytest.approx(shape.mask.sum() / 4, rel=0.25)
    metrics = coco_scores(judged, [0, 1, 2], perfect(judged), masks=True)
    known = {name: value for name, value in metrics.items() if np.isfinite(value)}
    assert {"ap", "ap50", "ap75", "mask_ap"} <= set(known)
    assert all(value >= 0.99 for value in known.values())


def test_truth_is_the_file_again(tmp_path: Path) -> None:
    layouts.boxes(tmp_path)
    given = json.loads((tmp_path / "val.json").read_text())
    truth = objects("boxes", tmp_path).judged.truth([0, 1, 2])
    assert [one["bbox"] for one in truth["annotations"]] == [one["bbox"] for one in given["annotations"]]
    assert [one["segmentation"] for one in truth["annotations"]] == [
        one["segmentation"] for one in given["annotations"]
    ]
    assert [one["area"] for one in truth["annotations"]] == [one["area"] for one in given["annotations"]]


def test_crowds_and_images_without_objects(tmp_path: Path) -> None:
    layouts.boxes(tmp_path)
    change(tmp_path / "train.json", lambda tree: tree["annotations"].__setitem__(slice(None), [
        one | {"iscrowd": int(one["image_id"] == 11)} for one in tree["annotations"] if one["image_id"] != 12
    ]))  # fmt: skip
    train = objects("boxes", tmp_path).train
    assert len(train) == 4
    assert train.learned().tolist() == [0, 3]


@pytest.mark.parametrize("train_ids", [False, True])
def test_cityscapes(tmp_path: Path, train_ids: bool) -> None:
    scenes = layouts.cityscapes(tmp_path, train_ids=train_ids)
    sets = labels("cityscapes", tmp_path)
    expected = np.array([255, 0, 13, 18], np.uint8)[layouts.label_map(scenes[1])]
    assert (sets.judged.read(0) == expected).all()
    assert len(sets.judged.names) == 19
    all_right(sets.judged)


def all_right(maps: LabelMaps) -> None:
    counts = sum(
        miou.confusion(maps.read(index), np.where(maps.read(index) == 255, 0, maps.read(index)), len(maps.names))
        for index in range(len(maps))
    )
    assert isinstance(counts, np.ndarray)
    assert miou.scores(counts)[0] == {"miou": 1, "pixel_accuracy": 1, "mean_class_accuracy": 1}


def test_voc_labels_are_indices(tmp_path: Path) -> None:
    scenes = layouts.voc_labels(tmp_path)
    sets = labels("voc2012", tmp_path)
    assert (sets.train.read(0) == layouts.label_map(scenes[0], border=True)).all()
    assert 255 in sets.train.read(0)
    assert check_labels(sets.train).sum() == sum((sets.train.read(one) != 255).sum() for one in range(3))
    all_right(sets.judged)


def test_voc_with_sbd(tmp_path: Path) -> None:
    scenes = layouts.voc_labels(tmp_path)
    more = tmp_path / "benchmark_RELEASE/dataset"
    layouts.text(more / "train.txt", ["t0", "extra", "v0"])
    layouts.text(more / "val.txt", ["other"])
    for name in ("extra", "other"):
        layouts.save(tmp_path / "VOCdevkit/VOC2012/JPEGImages" / f"{name}.jpg", scenes[0].image)
        (more / "cls").mkdir(exist_ok=True)
        savemat(more / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": layouts.label_map(scenes[0])}})
    train = labels("voc2012aug", tmp_path).train
    assert [Path(train.images.key(one)).stem for one in range(len(train))] == ["t0", "t1", "t2", "extra", "other"]
    assert (train.read(3) == layouts.label_map(scenes[0])).all()
    folder = tmp_path / "VOCdevkit/VOC2012/SegmentationClassAug"
    for name in ("t0", "extra", "v0"):
        layouts.save(folder / f"{name}.png", layouts.label_map(scenes[1]))
    train = labels("voc2012aug", tmp_path).train
    assert [Path(train.images.key(one)).stem for one in range(len(train))] == ["t0", "t1", "t2", "extra"]


def test_own_label_maps(tmp_path: Path) -> None:
    scenes = layouts.masks(tmp_path)
    sets = labels("masks", tmp_path)
    assert (sets.train.read(1) == layouts.label_map(scenes[1])).all()
    all_right(sets.judged)


def test_digit_scenes() -> None:
    sets = objects("digit-scenes", None)
    train, judged = sets.train, sets.judged
    assert (len(train), len(judged)) == COUNTS
    assert judged.regions is not None
    counts = np.diff(train.starts)
    assert counts.min() >= 1
    assert counts.max() <= 8
    maps = labels("digit-scenes", None).judged
    for row in judged.rows(3):
        mask = judged.regions.mask(row, (SIDE, SIDE), (SIDE, SIDE))
        x0, y0, x1, y1 = judged.boxes[row].astype(int)
        assert mask[y0:y1, x0:x1].sum() == mask.sum() == judged.areas[row]
        assert set(maps.read(3)[mask]) == {judged.classes[row] + 1}
    assert maps.names[1:] == judged.names
    again = objects("digit-scenes", None).judged
    assert again.hash() == judged.hash()
    assert train.hash() != judged.hash()


def change(path: Path, how: Callable[[dict[str, Any]], object]) -> None:
    tree = json.loads(path.read_text())
    how(tree)
    path.write_text(json.dumps(tree))


def first(key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda tree: tree["annotations"][0].update({key: value})


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda tree: tree.pop("images"), "has no list of images"),
        (lambda tree: tree["images"].append(tree["images"][0]), "two images have the id 10"),
        (first("image_id", 999), "name a image that the file lacks: 1"),
        (first("category_id", 2), "name a category that the file lacks: 1"),
        (first("bbox", [1, 1, 0, 4]), "a box without area"),
        (first("bbox", [1, 1, float("inf"), 4]), "not finite"),
        (first("bbox", [500, 1, 4, 4]), "outside of its image"),
        (first("bbox", [1, 1, 4]), "has the bbox"),
        (first("segmentation", {"size": [3, 3], "counts": "0"}), "run lengths of another size"),
        (first("segmentation", [["a"] * 6]), "has the polygon"),
        (lambda tree: tree["images"][0].update(file_name="gone.png"), "1 of 3 images of"),
        (lambda tree: tree["images"][0].pop("height"), "1 images have no height"),
        (lambda tree: tree["categories"].append({"id": 1, "name": "twice"}), "categories need ids"),
        (lambda tree: tree["categories"].append({"id": 91, "name": "new"}), "other categories"),
        (lambda tree: tree["annotations"].clear(), "no object in the part to be judged by"),
    ],
)
def test_faulty_coco_files(tmp_path: Path, how: Callable[[dict[str, Any]], object], words: str) -> None:
    layouts.boxes(tmp_path, (1, 3))
    change(tmp_path / "val.json", how)
    with pytest.raises(UserError, match=words):
        objects("boxes", tmp_path)


def test_mistakes_of_both_files_are_told_together(tmp_path: Path) -> None:
    layouts.boxes(tmp_path, (1, 1))
    (tmp_path / "train.json").write_text("{")
    change(tmp_path / "val.json", first("image_id", [1]))
    with pytest.raises(UserError) as told:
        objects("boxes", tmp_path)
    assert len(told.value.mistakes) == 2
    assert "can't be read as JSON" in str(told.value)


def test_a_few_impossible_boxes_are_dropped(tmp_path: Path) -> None:
    layouts.boxes(tmp_path, (1, 1))

    def many(tree: dict[str, Any]) -> None:
        one = tree["annotations"][0] | {"segmentation": [[1, 1, 2, 2], [1, 1, 9, 1, 9, 9]]}
        tree["annotations"] = [one | {"id": number} for number in range(1100)]
        tree["annotations"][5]["bbox"] = [1, 1, 0, 7]

    change(tmp_path / "train.json", many)
    train = objects("boxes", tmp_path).train
    assert train.notes == {"impossible_boxes": 1, "polygons_too_short": 1100}
    assert len(train.boxes) == 1099


def test_objects_without_masks_have_boxes(tmp_path: Path) -> None:
    layouts.boxes(tmp_path, (1, 1))
    change(tmp_path / "val.json", lambda tree: tree["annotations"][0].pop("segmentation"))
    sets = objects("boxes", tmp_path)
    assert sets.train.regions is not None
    assert sets.judged.regions is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>', "an entity"),
        ("<bndbox>", "<box>", "which no such file does"),
        ("xmin>", "left>", "without a whole bndbox"),
        ("<name>", "<name>un", "holds 'un"),
        ("<xmax>", "<xmax>-", "ends before it begins"),
    ],
)
def test_faulty_voc_files(tmp_path: Path, old: str, new: str, words: str) -> None:
    layouts.voc(tmp_path, (2, 2))
    for name in ("2007_test0", "2007_trainval1"):
        file = tmp_path / "VOCdevkit/VOC2007/Annotations" / f"{name}.xml"
        file.write_text(file.read_text().replace(old, new))
    with pytest.raises(UserError, match=words) as told:
        objects("voc2007", tmp_path)
    assert len(told.value.mistakes) >= 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Image.new("RGB", (64, 64)), "of mode RGB"),
        (lambda: Image.new("L", (64, 64), 9), "holds class 9; there are 4"),
        (lambda: Image.new("L", (32, 64)), "is 64 x 64 pixels, its label map 32 x 64"),
        (lambda: None, "can't be read as a label map"),
    ],
)
def test_faulty_label_maps(tmp_path: Path, make: Callable[[], Image.Image | None], words: str) -> None:
    layouts.masks(tmp_path)
    image, path = make(), tmp_path / "labels/val/1.png"
    path.write_bytes(b"no image") if image is None else image.save(path)
    with pytest.raises(UserError, match=words):
        check_labels(labels("masks", tmp_path).judged)


def test_missing_files(tmp_path: Path) -> None:
    layouts.masks(tmp_path)
    (tmp_path / "labels/train/0.png").unlink()
    with pytest.raises(UserError, match="1 of 4 label maps are missing, the first is"):
        labels("masks", tmp_path)
    for name, words in (("voc0712", "ImageSets/Main/trainval.txt"), ("coco", "instances_val2017.json missing")):
        with pytest.raises(UserError, match=words):
            objects(name, tmp_path)
    with pytest.raises(UserError, match="gtFine missing"):
        labels("cityscapes", tmp_path)


def test_nothing_but_ignored_pixels(tmp_path: Path) -> None:
    layouts.masks(tmp_path)
    for path in (tmp_path / "labels/val").iterdir():
        layouts.save(path, np.full((64, 64), 255, np.uint8))
    with pytest.raises(UserError, match="all are ignored"):
        check_labels(labels("masks", tmp_path).judged)


def test_sizes_are_held_against_the_images(tmp_path: Path) -> None:
    layouts.boxes(tmp_path, (2, 2))

    def taller(tree: dict[str, Any]) -> None:
        tree["images"][1].update(height=65)
        tree["annotations"] = [one for one in tree["annotations"] if isinstance(one["segmentation"], list)]

    change(tmp_path / "train.json", taller)
    with pytest.raises(UserError, match=r"1 images have another size .*annotated as 64 x 65"):
        check_objects(objects("boxes", tmp_path).train)
    wide = np.zeros((64, 40, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown upright it is 40 high and 64 wide
    Image.fromarray(wide).save(tmp_path / "val/000.png", exif=exif)
    change(tmp_path / "val.json", lambda tree: (tree["images"][0].update(height=64, width=40), tree.update(annotations=[
        {"id": 1, "image_id": 10, "category_id": 1, "bbox": [1, 1, 30, 20]}])))  # fmt: skip
    judged = objects("boxes", tmp_path).judged
    check_objects(judged)
    assert judged.size(0) == (40, 64)


def test_words(tmp_path: Path) -> None:
    for task, data, root, words in [
        ("detection", "", None, "name a set with --data"),
        ("detection", "voc", None, "did you mean voc2007"),
        ("detection", "coco", None, "--root FOLDER"),
        ("segmentation", "digit-scenes", tmp_path, "leave out --root"),
        ("segmentation", "masks", tmp_path / "nowhere", "is no folder"),
    ]:
        with pytest.raises(UserError, match=words):
            dense.described(task, data, root)  # pyright: ignore
