"""transfer: linear classifiers on frozen features of other datasets (TWIST's Table 4)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt
from torch import Tensor

from gemel.data.downstream import TABLE_4, available, describe, open_set
from gemel.data.downstream.parts import Downstream, Metric
from gemel.data.eval_crop import CROPS, Crop, Cropped
from gemel.data.sources import Source
from gemel.errors import UserError
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.features import see
from gemel.metrics.average_precision import eleven_point_ap
from gemel.metrics.classification import mean_per_class_accuracy, topk_accuracy
from gemel.supervised.logistic import Linear, fit_binary_path, fit_path

Power = Annotated[float, Field(ge=-12.0, le=12.0)]

TOLERANCE = 1e-7
"""share of the loss that the solver may leave unreduced"""

BINARY = "one a class, one λ for all; images where all objects of a class are difficult are left out for that class"
"""how a set with several classes per image is fitted"""

SOURCE = "Kornblith et al. 2019, BYOL appendix D"
"""of the protocol"""


class Rows(NamedTuple):
    """Features of the readable images of a source, and their targets."""

    features: Tensor
    """(N, width)"""
    targets: Tensor
    """(N,) labels, or (N, C) of 1, 0 and -1"""
    rejected: int


class Transfer(Evaluation):
    """Fit logistic regression on frozen features: L2 chosen on validation images, refitted on all but the test set.

    Features of one crop per image, without augmentation, not normalised. The objective is the sum of the losses and
    λ/2 |W|², biases free, minimised by L-BFGS. VOC2007 is 20 binary problems with one λ.

    Args:
        data: names of datasets, separated by commas; all: the eleven of TWIST's Table 4, and their mean
        root: the dataset's folder, or the one that holds all of them
        strengths: how many values of λ, evenly spaced on a log scale
        weakest: the smallest λ, as a power of ten
        strongest: the largest λ, as a power of ten
        seed: random seed of the validation images, where a dataset has no official ones
        voc_compat: 11-point average precision with the float thresholds of released code
    """

    takes_images = False

    def __init__(
        self,
        *,
        data: str = "",
        root: Path | None = None,
        strengths: Annotated[int, Field(ge=1, le=1000)] = 45,
        weakest: Power = -6.0,
        strongest: Power = 5.0,
        seed: NonNegativeInt = 0,
        voc_compat: bool = False,
    ) -> None:
        self.names, self.root = named(data, root)
        if strongest < weakest:
            raise UserError(f"--strongest {strongest:g} is below --weakest {weakest:g}")
        self.path: list[float] = np.logspace(weakest, strongest, strengths).tolist()
        self.seed = seed
        self.voc_compat = voc_compat

    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return each dataset's metric: SET_top1, SET_mean_per_class or SET_map11; of all eleven `average`."""
        metrics, details = each_set(self.names, self.root, self.seed, lambda one: self._judge(subject, one, tell))
        if set(self.names) == set(TABLE_4):
            metrics["average"] = sum(metrics.values()) / len(metrics)
        size = int(subject.facts["size"])
        return metrics, {
            "data": ",".join(self.names),
            "test": "of each set",
            "labels": "own",
            "protocol_source": SOURCE,
            "head": "logistic regression, L-BFGS, sum of losses + λ/2 |W|², biases free",
            "crop": _crop_words(subject, "middle"),
            "image_size": size,
            "strengths": [self.path[0], self.path[-1], len(self.path)],
            "tolerance": TOLERANCE,
            "seed": self.seed,
            "voc_compat": self.voc_compat,
            "sets": details,
        }

    def _judge(self, subject: Subject, data: Downstream, tell: Progress | None) -> tuple[float, dict[str, Any]]:
        targets, classes_kept = (None, None, None), list(range(len(data.label_names)))
        if data.targets is not None:
            classes_kept = _judged_classes(data.targets)
            targets = tuple(part[:, classes_kept] for part in data.targets)
        train, val, test = (
            rows_of(subject, source, target, "middle", tell)
            for source, target in zip((data.train, data.val, data.test), targets, strict=True)
        )
        metric, classes = data.described.metric, len(data.label_names)
        fitted = self._fit(train, self.path, classes)
        scores = [score(metric, one.logits(val.features), val.targets, self.voc_compat) for one in fitted]
        # of equal ones the strongest penalty
        best = max(range(len(scores)), key=lambda index: (scores[index], self.path[index]))
        both = Rows(
            torch.cat([train.features, val.features]),
            torch.cat([train.targets, val.targets]),
            train.rejected + val.rejected,
        )
        (final,) = self._fit(both, [self.path[best]], classes)
        found = score(metric, final.logits(test.features), test.targets, self.voc_compat)
        return found, {
            "metric": metric,
            "classes": len(classes_kept),
            "classes_left_out": [name for c, name in enumerate(data.label_names) if c not in classes_kept],
            "images": [len(part.targets) for part in (train, val, test)],
            "published_images": list(data.described.counts),
            "val": data.val_rule,
            "problem": "one of all classes" if data.targets is None else BINARY,
            "strength": self.path[best],
            "solved": final.solved,
            "strength_at_border": len(self.path) > 1 and best in (0, len(self.path) - 1),
            "val_score": scores[best],
            "rejected": both.rejected + test.rejected,
        }

    def _fit(self, rows: Rows, path: list[float], classes: int) -> list[Linear]:
        """Fit a classifier for each λ; the solver's penalty is relative to the mean loss."""
        strengths = [one / len(rows.targets) for one in path]
        if rows.targets.ndim == 2:
            return fit_binary_path(rows.features, rows.targets, strengths, tolerance=TOLERANCE)
        return fit_path(rows.features, rows.targets, strengths, classes=classes, tolerance=TOLERANCE)


def named(data: str, root: Path | None) -> tuple[list[str], Path]:
    """Return the names of the datasets that the user gave, and the folder that holds them.

    Raises:
        UserError: no or unknown names, no folder.
    """
    words = list(dict.fromkeys(word.strip() for word in data.split(",") if word.strip()))
    names: list[str] = list(TABLE_4) if words == ["all"] else words
    if not names:
        raise UserError(f"name datasets with --data, separated by commas, or all; there are {', '.join(available())}")
    for name in names:
        describe(name)
    if root is None:
        raise UserError("give the folder that holds the datasets with --root FOLDER; nothing is downloaded")
    return names, root


def each_set(
    names: Sequence[str], root: Path, seed: int, judge: Callable[[Downstream], tuple[float, dict[str, Any]]]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return SET_METRIC of each dataset, and its details by its name.

    All are opened before the first is used, so that a missing one costs no time.
    """
    metrics: dict[str, float] = {}
    details: dict[str, Any] = {}
    for one in [open_set(name, root, seed=seed) for name in names]:
        name = one.described.name
        metrics[f"{name}_{one.described.metric}"], details[name] = judge(one)
    return metrics, details


def rows_of(
    subject: Subject, source: Source, targets: NDArray[np.int64] | None, crop: Crop, tell: Progress | None
) -> Rows:
    """Return features of a source's readable images by a given crop; a network of glyphs always sees the whole image.

    Raises:
        UserError: none can be read, or features that are not finite.
    """
    facts = subject.facts
    if facts["views"] != "glyph":
        # Cropped images are used whole. The cache tells features apart by the network's options.
        options = {**facts.get("options", {}), "crop": crop}
        subject = replace(subject, facts={**facts, "views": "glyph", "options": options}, method=None)
        source = Cropped(source, int(facts["size"]), crop)
    seen = see(replace(subject, method=None), source, tell=tell)
    if not bool(torch.isfinite(seen.features).all()):
        raise UserError("the features hold NaN or infinite values; the training diverged")
    own = seen.labels if targets is None else targets[seen.indices]
    assert own is not None  # every dataset of the package has labels or targets
    return Rows(seen.features, torch.from_numpy(own), len(seen.rejected))


def score(metric: Metric | Literal["top1"], logits: Tensor, targets: Tensor, voc_compat: bool = False) -> float:
    """Return a dataset's metric, 0..1.

    Args:
        metric: which.
        logits: (N, C).
        targets: (N,) labels; for map11 (N, C) of 1, 0 and -1.
        voc_compat: see `eleven_point_ap`.
    """
    if metric == "map11":
        found = [
            eleven_point_ap(logits[:, one], targets[:, one], voc_compat=voc_compat) for one in range(logits.shape[1])
        ]
        return sum(found) / len(found)
    if metric == "mean_per_class":
        return mean_per_class_accuracy(logits.argmax(dim=1), targets)
    return topk_accuracy(logits, targets, 1)


def _judged_classes(parts: Sequence[NDArray[np.int64]]) -> list[int]:
    """Return the classes with positives and negatives in each part; the whole VOC2007 has all 20 in each.

    Raises:
        UserError: there is none.
    """
    found = [c for c in range(parts[0].shape[1]) if all({0, 1} <= set(part[:, c].tolist()) for part in parts)]
    if not found:
        raise UserError("no class has positive and negative images in each of the training, validation and test images")
    return found


def _crop_words(subject: Subject, crop: Crop) -> str:
    return "the whole image" if subject.facts["views"] == "glyph" else CROPS[crop]
