"""voc07: one linear SVM per class on frozen features of PASCAL VOC 2007, on all images or few positives per class."""

import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from gemel.data.downstream import open_set
from gemel.data.eval_crop import CROPS
from gemel.data.sources import Source
from gemel.errors import UserError
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.protocols.transfer import Rows, rows_of
from gemel.metrics.average_precision import area_ap

COSTS = (0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 1000.0)
"""of VISSL's configuration"""

FOLDS = 3

Floats = NDArray[np.float32]


class Voc07(Evaluation):
    """Fit linear SVMs to VOC2007 trainval, judged by the area AP on test, as VISSL does (Barlow Twins' Table 3).

    Features divided by their norm; squared hinge, L2, class weights 2 (positive) and 1; the cost of each class by
    3-fold cross-validated average precision. Images with difficult objects alone count as negatives in training and are
    left out of the test. Layer: the network's output; papers quote the best of several.

    Args:
        root: the folder that holds VOCdevkit/VOC2007
        costs: values of the SVM's C
        shots: low-shot: positives per class (1,2,4,8,16,32,64,96), all other images negatives; left out: all images
        samples: low-shot: independent samples of each size
        seed: random seed of the folds and samples
        iterations: the solver's limit
    """

    takes_images = False

    def __init__(
        self,
        *,
        root: Path | None = None,
        costs: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = COSTS,
        shots: tuple[PositiveInt, ...] = (),
        samples: PositiveInt = 5,
        seed: NonNegativeInt = 0,
        iterations: PositiveInt = 2000,
    ) -> None:
        if root is None:
            raise UserError("give the folder that holds VOCdevkit/VOC2007 with --root FOLDER; nothing is downloaded")
        self.root, self.costs, self.shots = root, costs, shots
        self.samples, self.seed, self.iterations = samples, seed, iterations

    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return map_area of all images; with shots map_area_K, the mean over samples, and map_area_K_std."""
        data = open_set("voc2007", self.root)
        assert data.targets is not None
        fitted = np.concatenate(data.targets[:2])
        bank = rows_of(subject, data.fitted, fitted, "whole", tell)
        judged = rows_of(subject, data.test, data.targets[2], "whole", tell)
        rows, tests = unit(bank), unit(judged)
        there = bank.targets.numpy() == 1
        absent = [data.label_names[c] for c in range(there.shape[1]) if not there[:, c].any()]
        metrics: dict[str, float] = {}
        if not self.shots:
            metrics["map_area"] = self._map(rows, there, tests, judged, None)
        for shots in self.shots:
            found = [self._map(rows, there, tests, judged, (shots, sample)) for sample in range(self.samples)]
            metrics[f"map_area_{shots}"] = float(np.mean(found))
            metrics[f"map_area_{shots}_std"] = float(np.std(found))
        return metrics, {
            "data": "voc2007 trainval",
            "test": "voc2007 test",
            "labels": "own",
            "crop": "the whole image" if subject.facts["views"] == "glyph" else CROPS["whole"],
            "head": "LinearSVC: squared hinge, L2, class weights 2 and 1, features of length 1",
            "layer": f"the network's output, {rows.shape[1]} features",
            "ap": "area under the precision envelope",
            "difficult": "negatives in training, left out of the test",
            "costs": list(self.costs),
            "cost_by": f"{FOLDS}-fold average precision, each class",
            "shots": list(self.shots),
            "samples": self.samples if self.shots else None,
            "seed": self.seed,
            "iterations": self.iterations,
            "images": [len(rows), len(tests)],
            "classes_left_out": absent,
            "rejected": bank.rejected + judged.rejected,
        }

    def _map(
        self, rows: Floats, there: NDArray[np.bool_], tests: Floats, judged: Rows, low: tuple[int, int] | None
    ) -> float:
        """Return the mean over classes with positives in training and test; low: positives, number of the sample."""
        found: list[float] = []
        for one in range(there.shape[1]):
            if not there[:, one].any() or there[:, one].all() or not bool((judged.targets[:, one] == 1).any()):
                continue
            chosen = np.arange(len(rows)) if low is None else self._sample(there[:, one], one, *low)
            model = self._svm(rows[chosen], there[chosen, one])
            scores = torch.from_numpy(model.decision_function(tests))
            found.append(area_ap(scores, judged.targets[:, one]))
        if not found:
            raise UserError("no class of VOC2007 has positive images in both training and test")
        return sum(found) / len(found)

    def _sample(self, there: NDArray[np.bool_], one: int, shots: int, sample: int) -> NDArray[np.int64]:
        """Return some positives of a class, and all negatives."""
        random = np.random.default_rng([self.seed, sample, one])
        positives = np.flatnonzero(there)
        if len(positives) < shots:
            raise UserError(f"class {one} of VOC2007 has {len(positives)} positives, fewer than the {shots} of --shots")
        return np.sort(np.concatenate([random.choice(positives, shots, replace=False), np.flatnonzero(~there)]))

    def _svm(self, rows: Floats, there: NDArray[np.bool_]) -> LinearSVC:
        """Fit the SVM of one class, its cost by cross-validation where there are enough positives for the folds."""
        with warnings.catch_warnings():
            # the limit on iterations is part of the protocol
            warnings.simplefilter("ignore", ConvergenceWarning)
            costs = self.costs
            if len(costs) > 1 and min(there.sum(), (~there).sum()) >= FOLDS:
                scores = [
                    cross_val_score(self._make(cost), rows, there, cv=FOLDS, scoring="average_precision").mean()
                    for cost in costs
                ]
                costs = (costs[int(np.argmax(scores))],)
            # fewer positives than folds: the middle of the costs
            return self._make(costs[len(costs) // 2]).fit(rows, there)

    def _make(self, cost: float) -> LinearSVC:
        return LinearSVC(
            C=cost,
            class_weight={True: 2.0, False: 1.0},
            dual=True,  # pyright: ignore[reportArgumentType]
            tol=1e-4,
            max_iter=self.iterations,
            random_state=self.seed,
        )


def unit(rows: Rows) -> Floats:
    """Return f / (|f| + 1e-5), (N, width)."""
    return (rows.features / (rows.features.norm(dim=1, keepdim=True) + 1e-5)).numpy()
