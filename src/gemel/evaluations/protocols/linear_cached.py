"""linear-cached: one linear layer on features that are computed once, by L-BFGS; no published protocol."""

from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveFloat
from torch import Tensor

from gemel.data.sources import Source
from gemel.errors import UserError
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.features import Seen, labelled, rejected_in, see
from gemel.evaluations.splits import HOLD_OUT, hold_out
from gemel.metrics.classification import topk_accuracy
from gemel.supervised.logistic import Linear, fit_path

Power = Annotated[float, Field(ge=-12.0, le=12.0)]


class LinearCached(Evaluation):
    """Fit one linear layer on features of the inference crop by L-BFGS, over a path of L2 strengths.

    Not a published protocol: those train with augmentation, which usually adds about a point. The strength is chosen
    on a fifth of the training images; then all of them are fitted, and the test images are used once.

    Args:
        strengths: how many, evenly spaced on a log scale
        weakest: the smallest strength, as a power of ten
        strongest: the largest one, as a power of ten
        tolerance: of the solver: estimated share of the loss that is left to gain
    """

    def __init__(
        self,
        *,
        strengths: Annotated[int, Field(ge=1, le=1000)] = 23,
        weakest: Power = -8.0,
        strongest: Power = 3.0,
        tolerance: PositiveFloat = 1e-7,
    ) -> None:
        if strongest < weakest:
            raise UserError(f"--strongest {strongest:g} is below --weakest {weakest:g}")
        self.path: list[float] = np.logspace(strongest, weakest, strengths).tolist()
        self.tolerance = tolerance

    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return top1 and, from five classes on, top5 on the test images; `fitted_top1` on the training images."""
        seen = see(subject, train, tell=tell)
        tested = None if test is None else see(subject, test, tell=tell)
        labelled(seen)  # mistakes in all images are reported before they are split
        indices, held = hold_out(train) if tested is None else (np.arange(len(train)), None)
        fitted, judged = seen.at(indices), seen.at(held) if held is not None else tested
        assert judged is not None
        inner, validation = (seen.at(indices[part]) for part in hold_out(train.subset(indices)))
        rows, labels = labelled(judged, classes=1)
        classes = int(max(seen.source.labels.max(), labels.max())) + 1 if seen.source.labels is not None else 0
        scores = [_top1(one, *labelled(validation, classes=1)) for one in self._fit(inner, classes, self.path)]
        best = int(np.argmax(scores))  # the strongest of equally good ones
        layer = self._fit(fitted, classes, self.path[: best + 1])[-1]
        logits = rows @ layer.weight.T + layer.bias
        metrics = {"top1": topk_accuracy(logits, labels, 1)}
        if classes >= 5:
            metrics["top5"] = topk_accuracy(logits, labels, 5)
        metrics |= {"fitted_top1": _top1(layer, *labelled(fitted)), "validation_top1": scores[best]}
        return metrics, {
            "protocol": "linear-cached: features of the inference crop, no augmentation; not the published protocol",
            "solver": "L-BFGS on mean cross-entropy + strength / 2 |W|^2, bias free, features as they are",
            "strengths": [self.path[0], self.path[-1], len(self.path)],
            "strength": self.path[best],
            "chosen_on": f"{len(validation.indices)} of the images to fit on ({HOLD_OUT})",
            "tolerance": self.tolerance,
            "solved": layer.solved,
            "split": HOLD_OUT if test is None else f"test set {test.name}",
            "fitted": len(labelled(fitted)[1]),
            "judged": len(labels),
            "classes": classes,
            "rejected": rejected_in(seen, tested),
        }

    def _fit(self, seen: Seen, classes: int, path: list[float]) -> list[Linear]:
        rows, labels = labelled(seen)
        return fit_path(rows, labels, path, classes=classes, tolerance=self.tolerance)


def _top1(layer: Linear, rows: Tensor, labels: Tensor) -> float:
    return topk_accuracy(rows @ layer.weight.T + layer.bias, labels, 1)
