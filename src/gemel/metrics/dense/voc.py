"""VOC's average precision of boxes, as Detectron2's evaluator computes it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""of the intersection over union, over which `ap` is the mean"""


class Objects(NamedTuple):
    """Boxes of one class in all images."""

    images: NDArray[np.int64]
    """(n,) which image each is in"""
    boxes: Floats
    """(n, 4): x0, y0, x1, y1, whole pixels counted from 1, the last one included"""
    values: NDArray[Any]
    """(n,) of the truth: whether it is difficult; of predictions: the score"""


def average_precision(truth: Objects, predictions: Objects, threshold: float) -> tuple[float, float]:
    """Return the 11-point average precision of a class, and the area under the curve; nan of the area without truth.

    A prediction is right if its intersection over union with the nearest object, sides counted as x1 - x0 + 1, is
    above the threshold, and no likelier one took that object. Difficult objects neither count nor hurt. Predictions of
    equal scores keep their order. Coordinates are rounded to one decimal and scores to three before, as the evaluator's
    files have them.

    Args:
        truth: objects of the class.
        predictions: of the class.
        threshold: of the intersection over union, 0..1.
    """
    difficult = truth.values.astype(bool)
    scores, boxes = np.round(predictions.values.astype(float), 3), np.round(predictions.boxes, 1)
    order = np.argsort(-scores, kind="stable")
    of_image = {int(image): np.flatnonzero(truth.images == image) for image in np.unique(truth.images)}
    taken = np.zeros(len(difficult), bool)
    right, wrong = np.zeros(len(order)), np.zeros(len(order))
    for rank, index in enumerate(order):
        candidates = of_image.get(int(predictions.images[index]))
        overlaps = np.zeros(0) if candidates is None else _overlaps(truth.boxes[candidates], boxes[index])
        if candidates is None or overlaps.max() <= threshold:
            wrong[rank] = 1
            continue
        best = candidates[overlaps.argmax()]
        if not difficult[best]:
            (wrong if taken[best] else right)[rank] = 1
            taken[best] = True
    return _curve(right.cumsum(), wrong.cumsum(), int((~difficult).sum()))


def mean_average_precision(
    truth: Sequence[Objects], predictions: Sequence[Objects]
) -> tuple[dict[str, float], list[int]]:
    """Return ap, ap50, ap75 (11-point) and ap50_area, 0..1, and the classes without truth, which do not count.

    Args:
        truth: objects of each class.
        predictions: of each class.
    """
    empty = [index for index, one in enumerate(truth) if not (~one.values.astype(bool)).any()]
    judged = [pair for index, pair in enumerate(zip(truth, predictions, strict=True)) if index not in empty]
    if not judged:
        return dict.fromkeys(("ap", "ap50", "ap75", "ap50_area"), float("nan")), empty
    points = np.array([[average_precision(*pair, threshold) for threshold in THRESHOLDS] for pair in judged])
    means = points.mean(0)  # (thresholds, 2)
    named = {"ap": means[:, 0].mean(), "ap50": means[0, 0], "ap75": means[5, 0], "ap50_area": means[0, 1]}
    return {name: float(value) for name, value in named.items()}, empty


def _overlaps(boxes: Floats, box: Floats) -> Floats:
    """Return the intersection over union of boxes (n, 4) with one."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]) + 1
    common = np.clip(sides, 0, None).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(1)
    return common / (areas + (box[2:] - box[:2] + 1).prod() - common)


def _curve(right: Floats, wrong: Floats, count: int) -> tuple[float, float]:
    if not count:
        return 0.0, float("nan")
    recall, precision = right / count, right / np.maximum(right + wrong, np.finfo(float).eps)
    points = [precision[recall >= one].max(initial=0.0) for one in np.arange(0.0, 1.1, 0.1)]
    recall, precision = np.concatenate([[0.0], recall, [1.0]]), np.concatenate([[0.0], precision, [0.0]])
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    moved = np.flatnonzero(recall[1:] != recall[:-1])
    return float(np.mean(points)), float(((recall[moved + 1] - recall[moved]) * highest[moved + 1]).sum())
