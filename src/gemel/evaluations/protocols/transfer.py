"""transfer: linear classifiers on frozen features of other data sets (TWIST's Table 4)."""

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
"""share of the loss that the solver may leave to gain"""

BINARY = "one a class, one λ for all; images where all objects of a class are difficult are left out for that class"
"""what a set with several classes an image is"""

SOURCE = "Kornblith et al. 2019, BYOL appendix D"
"""of the protocol"""


class Rows(NamedTuple):
    """Features of the readable images of a source, and what is to be told of them."""

    features: Tensor
    """(N, width)"""
    targets: Tensor
    """(N,) labels, or (N, C) of 1, 0 and -1"""
    rejected: int


class Transfer(Evaluation):
    """Logistic regression on frozen features, L2 chosen on the images to choose by, refitted on all but the test set.

    Features of one crop an image, without augmentation; not normalised. The objective is the sum of the losses and
    λ/2 |W|², the biases free, by L-BFGS to its optimum. VOC2007 is 20 binary problems with one λ.

    Args:
        data: names of data sets, joined by commas; all: the eleven of TWIST's Table 4, and their mean
        root: the data set's folder, or the one that all lie in
        strengths: how many values of λ, evenly spread on a log scale
        weakest: the smallest λ, as a power of ten
        strongest: the largest λ, as a power of ten
        seed: of the images to choose by, where a set has no official ones
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
        """Of each set its metric: SET_top1, SET_mean_per_class or SET_map11; of all eleven `average`."""
        metrics, told = each_set(self.names, self.root, self.seed, lambda one: self._judge(subject, one, tell))
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
            "sets": told,
        }

    def _judge(self, subject: Subject, data: Downstream, tell: Progress | None) -> tuple[float, dict[str, Any]]:
        targets, kept = (None, None, None), list(range(len(data.label_names)))
        if data.targets is not None:
            kept = _judged_classes(data.targets)
            targets = tuple(part[:, kept] for part in data.targets)
        train, val, test = (
            rows_of(subject, source, target, "middle", tell)
            for source, target in zip((data.train, data.val, data.test), targets, strict=True)
        )
        metric, classes = data.described.metric, len(data.label_names)
        fitted = self._fit(train, self.path, classes)
        scores = [score(metric, one.logits(val.features), val.targets, self.voc_compat) for one in fitted]
        # of equal ones the strongest penalty
        best = max(range(len(scores)), key=lambda place: (scores[place], self.path[place]))
        both = Rows(
            torch.cat([train.features, val.features]),
            torch.cat([train.targets, val.targets]),
            train.rejected + val.rejected,
        )
        (final,) = self._fit(both, [self.path[best]], classes)
        found = score(metric, final.logits(test.features), test.targets, self.voc_compat)
        return found, {
            "metric": metric,
            "classes": len(kept),
            "classes_left_out": [name for place, name in enumerate(data.label_names) if place not in kept],
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
        """The classifiers of a path of λ; the solver's penalty weighs against the mean loss."""
        strengths = [one / len(rows.targets) for one in path]
        if rows.targets.ndim == 2:
            return fit_binary_path(rows.features, rows.targets, strengths, tolerance=TOLERANCE)
        return fit_path(rows.features, rows.targets, strengths, classes=classes, tolerance=TOLERANCE)


def named(data: str, root: Path | None) -> tuple[list[str], Path]:
    """The data sets of the user's words, and the folder that they lie in.

    Raises:
        UserError: no or unknown names, no folder.
    """
    words = list(dict.fromkeys(word.strip() for word in data.split(",") if word.strip()))
    names: list[str] = list(TABLE_4) if words == ["all"] else words
    if not names:
        raise UserError(f"name data sets with --data, joined by commas, or all; there are {', '.join(available())}")
    for name in names:
        describe(name)
    if root is None:
        raise UserError("give the folder that the data sets lie in with --root FOLDER; nothing is downloaded")
    return names, root


def each_set(
    names: Sequence[str], root: Path, seed: int, judge: Callable[[Downstream], tuple[float, dict[str, Any]]]
) -> tuple[dict[str, float], dict[str, Any]]:
    """SET_METRIC of each set, and what is told of it, by its name.

    All are opened before any is looked at, so that a missing one costs no time.
    """
    metrics: dict[str, float] = {}
    told: dict[str, Any] = {}
    for one in [open_set(name, root, seed=seed) for name in names]:
        name = one.described.name
        metrics[f"{name}_{one.described.metric}"], told[name] = judge(one)
    return metrics, told


def rows_of(
    subject: Subject, source: Source, targets: NDArray[np.int64] | None, crop: Crop, tell: Progress | None
) -> Rows:
    """Features of a source's readable images by a crop of its own; a glyph's network sees the whole image always.

    Raises:
        UserError: none can be read, or features that are not finite.
    """
    facts = subject.facts
    if facts["views"] != "glyph":
        # What is cropped already is taken as it is. The cache tells features apart by the network's options.
        options = {**facts.get("options", {}), "crop": crop}
        subject = replace(subject, facts={**facts, "views": "glyph", "options": options}, method=None)
        source = Cropped(source, int(facts["size"]), crop)
    seen = see(replace(subject, method=None), source, tell=tell)
    if not bool(torch.isfinite(seen.features).all()):
        raise UserError("the features hold numbers that are not finite; the training diverged")
    found = seen.labels if targets is None else targets[seen.places]
    assert found is not None  # every set of the package has labels or targets
    return Rows(seen.features, torch.from_numpy(found), len(seen.rejected))


def score(metric: Metric | Literal["top1"], logits: Tensor, targets: Tensor, voc_compat: bool = False) -> float:
    """A set's metric, 0..1.

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
    """Classes with positives and negatives in each part; the whole VOC2007 has all 20 in each.

    Raises:
        UserError: there is none.
    """
    found = [c for c in range(parts[0].shape[1]) if all({0, 1} <= set(part[:, c].tolist()) for part in parts)]
    if not found:
        raise UserError("no class has positive and negative images to fit on, to choose by and to judge by")
    return found


def _crop_words(subject: Subject, crop: Crop) -> str:
    return "the whole image" if subject.facts["views"] == "glyph" else CROPS[crop]
