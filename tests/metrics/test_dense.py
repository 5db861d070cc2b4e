"""Planted boxes, masks and label maps: the numbers of COCO, of VOC's evaluator and of label maps."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemel.metrics.dense import coco, miou, voc

TRUTH: dict[str, Any] = {
    "images": [{"id": 1, "height": 100, "width": 100}, {"id": 2, "height": 100, "width": 100}],
    "annotations": [
        {"id": number, "image_id": image, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for number, (image, box) in enumerate([(1, [0, 0, 10, 10]), (1, [50, 50, 20, 20]), (2, [10, 10, 40, 40])], 1)
    ],
    "categories": [{"id": 1, "name": "one"}],
}
BOXES = [(one["image_id"], one["bbox"]) for one in TRUTH["annotations"]]


def found(*rows: tuple[int, list[float], float]) -> list[dict[str, Any]]:
    return [{"image_id": image, "category_id": 1, "bbox": box, "score": score} for image, box, score in rows]


@pytest.mark.parametrize(
    ("predictions", "ap", "ap50", "ap75"),
    [
        ([(image, box, 0.9) for image, box in BOXES], 1, 1, 1),
        ([(image, box, 0.9) for image, box in BOXES[:2]], 67 / 101, 67 / 101, 67 / 101),
        ([(1, [80, 0, 9, 9], 0.99), *((image, box, 0.9) for image, box in BOXES)], 0.75, 0.75, 0.75),
        ([(2, [20, 10, 40, 40], 0.9)], 0.100990, 0.336634, 0),
        ([*((image, box, 0.9) for image, box in BOXES), (*BOXES[0], 0.5)], 1, 1, 1),
        ([], 0, 0, 0),
    ],
)
def test_coco(predictions: list[tuple[int, list[float], float]], ap: float, ap50: float, ap75: float) -> None:
    got = coco.average_precision(TRUTH, found(*predictions))
    assert [got["ap"], got["ap50"], got["ap75"]] == pytest.approx([ap, ap50, ap75], abs=1e-6)
    assert np.isnan(got["ap_large"])


def test_masks_of_coco_have_their_own_area() -> None:
    mask = np.zeros((100, 100), bool)
    mask[10:50, 10:30] = True
    region = coco.encode(mask)
    truth = TRUTH | {"annotations": [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [10, 10, 20, 40],
                                      "area": 800, "iscrowd": 0, "segmentation": region}]}  # fmt: skip
    rows = [{"image_id": 2, "category_id": 1, "bbox": [10, 10, 99, 99], "segmentation": region, "score": 0.5}]
    got = coco.average_precision(truth, rows, "segm")
    assert (got["ap"], got["ap_small"]) == pytest.approx((1, 1))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))
def test_codes_of_masks_are_read_back(height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    assert (coco.decode(coco.encode(mask), height, width) == mask).all()


def test_polygons_and_plain_run_lengths() -> None:
    square = coco.decode([[1, 1, 1, 4, 5, 4, 5, 1]], 6, 8)
    assert square.sum() == 12
    assert square[1:4, 1:5].all()
    plain = coco.decode({"size": [6, 8], "counts": [7, 3, 3, 3, 3, 3, 3, 3, 20]}, 6, 8)
    assert (plain == square).all()
    assert not coco.decode([], 6, 8).any()


def objects(*rows: tuple[int, tuple[float, float, float, float], float]) -> voc.Objects:
    images, boxes, values = zip(*rows, strict=True)
    return voc.Objects(np.array(images), np.array(boxes, float), np.array(values))


CATS = objects(
    (1, (1, 1, 10, 10), 0), (1, (31, 31, 50, 50), 1), (2, (11, 11, 30, 30), 0), (2, (51, 51, 70, 70), 0)
)  # fmt: skip


def test_voc() -> None:
    rows = objects(
        (1, (1, 1, 10, 10), 0.9),
        (1, (31, 31, 50, 50), 0.8),
        (2, (80, 80, 90, 90), 0.7),
        (2, (11, 11, 30, 30), 0.6),
        (1, (1, 1, 10, 10), 0.5),
    )
    assert voc.average_precision(CATS, rows, 0.5) == pytest.approx((6 / 11, 0.555556), abs=1e-6)


def test_voc_wants_more_than_the_threshold() -> None:
    half = objects((1, (1, 1, 10, 20), 0.9))  # 100 of 200 pixels
    assert voc.average_precision(CATS, half, 0.5)[0] == 0
    more = objects((2, (16, 11, 35, 30), 0.9))  # 15 of 25 columns
    means, empty = voc.mean_average_precision([CATS], [more])
    assert (means["ap50"], means["ap"]) == pytest.approx((4 / 11, 0.072727), abs=1e-6)
    assert empty == []


def test_voc_rounds_as_the_evaluators_files() -> None:
    rows = objects((2, (80, 80, 90, 90), 0.90049), (1, (1.04, 1.0, 10.04, 10.0), 0.90012))
    assert voc.average_precision(CATS, rows, 0.5)[1] == pytest.approx(1 / 6)  # equal scores keep their order


def test_voc_without_truth() -> None:
    none = voc.Objects(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))
    zero, area = voc.average_precision(none, objects((1, (1, 1, 2, 2), 0.5)), 0.5)
    assert zero == 0
    assert np.isnan(area)
    means, empty = voc.mean_average_precision([CATS, none], [CATS, none])
    assert (means["ap"], empty) == (1.0, [1])


LABELS = np.array([[0, 0, 255], [1, 1, 255]], np.uint8)
GUESSED = np.array([[0, 1, 0], [1, 1, 0]], np.uint8)


@pytest.mark.parametrize(
    ("classes", "where", "value", "expected"),
    [
        (2, (0, 0), 0, (1 / 2 + 2 / 3) / 2),
        (3, (0, 0), 0, (1 / 2 + 2 / 3) / 2),  # a class in neither is left out
        (3, (0, 2), 2, (1 / 2 + 2 / 3) / 2),  # and so is one predicted in place of an ignored pixel
        (3, (0, 1), 2, (1 / 2 + 1 + 0) / 3),
    ],
)
def test_label_maps(classes: int, where: tuple[int, int], value: int, expected: float) -> None:
    guessed = GUESSED.copy()
    guessed[where] = value
    means, _ = miou.scores(miou.confusion(LABELS, guessed, classes))
    assert means["miou"] == pytest.approx(expected)


def test_accuracies_of_label_maps() -> None:
    means, iou = miou.scores(miou.confusion(LABELS, GUESSED, 3))
    assert means["pixel_accuracy"] == pytest.approx(3 / 4)
    assert means["mean_class_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    assert iou[:2] == pytest.approx([1 / 2, 2 / 3])
    assert np.isnan(iou[2])
