"""Intersection over union of label maps."""

import numpy as np
from numpy.typing import NDArray

IGNORED = 255
"""the value of pixels that are not judged"""


def confusion(labels: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Return how many pixels of each class (rows) were predicted as each class (columns), (C, C).

    >>> confusion(np.array([[0, 1, 255]], np.uint8), np.array([[0, 0, 1]], np.uint8), 2).tolist()
    [[1, 0], [1, 0]]
    """
    known = labels != IGNORED
    pairs = labels[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def scores(counts: NDArray[np.int64]) -> tuple[dict[str, float], list[float]]:
    """Return miou, pixel_accuracy and mean_class_accuracy, 0..1, and each class's IoU.

    A class that neither labels nor predictions hold has the IoU nan and is left out of the means; one that is only
    predicted counts 0 in `miou`.

    Args:
        counts: of `confusion`, (C, C).
    """
    hit, labelled, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        iou, accuracy = hit / (labelled + predicted - hit), hit / labelled
    means = {
        "miou": _mean(iou),
        "pixel_accuracy": float(hit.sum() / max(counts.sum(), 1)),
        "mean_class_accuracy": _mean(accuracy),
    }
    return means, [float(one) for one in iou]


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
