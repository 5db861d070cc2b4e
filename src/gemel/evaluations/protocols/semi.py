"""semi: semi-supervised learning, that is fine-tuning with the labels of few images."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveFloat

from gemel.data.sources import Source
from gemel.data.sources.parts import Subset
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.fit_common import SCRATCH, fine_tuned, given_of, listed, parts_of, recipe_of, share_of
from gemel.settings.recipes import Count, Share
from gemel.supervised.recipes import Fitting, Precision, find_recipe, overridden
from gemel.text_files import read_lines


def _row(source: str, backbone_lr: float, lr: float, **values: Any) -> Fitting:
    row = {"source": source, "backbone_lr": backbone_lr, "lr": (lr,), "epochs": 20, "batch_size": 256}
    return Fitting.model_validate(row | values)


_STEPS: dict[str, Any] = {"schedule": "steps", "milestones": (0.6, 0.8), "factor": 0.2}
_SIMCLR: dict[str, Any] = {"batch_size": 4096, "nesterov": True, "scale_lr": True}
_BYOL = "BYOL paper C.1: the middle of five rates and the smaller of two numbers of epochs; it chose on held-out images"

RECIPES: dict[str, dict[float, Fitting]] = {
    "twist": {
        1: _row("TWIST README, ResNet-50", 0.04, 0.2),
        10: _row("TWIST README, ResNet-50", 0.02, 0.2),
        100: _row("TWIST README, ResNet-50", 0.01, 0.2, epochs=30),
    },
    "barlow_twins": {
        1: _row("Barlow Twins paper", 0.002, 0.5, **_STEPS),
        10: _row("Barlow Twins paper", 0.002, 0.5, **_STEPS),
    },
    "barlow_twins-code": {1: _row("Barlow Twins README", 0.005, 0.5)},
    "swav": {1: _row("SwAV code", 0.02, 5.0, **_STEPS), 10: _row("SwAV code", 0.01, 0.2, **_STEPS)},
    "vicreg": {1: _row("VICReg README", 0.03, 0.08), 10: _row("VICReg README", 0.01, 0.1)},
    "byol": {
        1: _row(_BYOL, 0.02, 0.02, epochs=30, batch_size=1024, nesterov=True),
        10: _row(_BYOL, 0.02, 0.02, epochs=30, batch_size=1024, nesterov=True),
    },
    "simclr": {
        1: _row("SimCLR paper B.5; its decay is not stated: cosine", 0.05, 0.05, epochs=60, **_SIMCLR),
        10: _row("SimCLR paper B.5; its decay is not stated: cosine", 0.05, 0.05, epochs=30, **_SIMCLR),
    },
    "scratch": {100: SCRATCH},
    "lightly": {100: _row("lightly's benchmark", 0.05, 0.05, epochs=30, scale_lr=True)},
}
"""by percentage of the labels"""


class Semi(Evaluation):
    """Fine-tune with a share of the labels: network and a new linear layer, each with its own learning rate.

    Defaults are the recipe's at the nearest percentage that its paper has.

    Args:
        percent: of each class's training images whose labels are used; rounded up
        list: a file of image names, one per line (SimCLR's 1percent.txt, 10percent.txt), instead of a drawn share
        recipe: whose numbers: twist, barlow_twins, barlow_twins-code, swav, vicreg, byol, simclr, lightly,
            scratch; left out: scratch for random weights, else those of the run's method or twist
        lr: learning rate of the layer
        backbone_lr: learning rate of the network
        scale_lr: rates are for a batch of 256 and are multiplied by batch_size / 256
        epochs: passes over these images
        batch_size: images per step
        weight_decay: of all parameters
        momentum: of SGD
        drop_last: skip a last batch that is not full; one of a single image is always skipped
        seed: random seed of the share, the layer, the order and the crops
        precision: bf16: the network runs in bfloat16
    """

    def __init__(
        self,
        *,
        percent: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0,
        list: str | None = None,
        recipe: str | None = None,
        lr: PositiveFloat | None = None,
        backbone_lr: PositiveFloat | None = None,
        scale_lr: bool | None = None,
        epochs: Count | None = None,
        batch_size: Count | None = None,
        weight_decay: NonNegativeFloat | None = None,
        momentum: Share | None = None,
        drop_last: bool | None = None,
        seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
        precision: Precision = "32",
    ) -> None:
        self.recipe = None if recipe is None else find_recipe(RECIPES, recipe, "semi")
        self.percent, self.list = percent, list
        self.given = given_of(
            lr,
            backbone_lr=backbone_lr,
            scale_lr=scale_lr,
            epochs=epochs,
            batch_size=batch_size,
            weight_decay=weight_decay,
            momentum=momentum,
            drop_last=drop_last,
        )
        self.seed = seed
        self.precision: Precision = precision

    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return top1, top5 (from five classes on), mean_per_class, best_...."""
        name = self.recipe or recipe_of(subject, RECIPES, "semi")
        rows = RECIPES[name]
        nearest = min(rows, key=lambda percent: (max(percent / self.percent, self.percent / percent), percent))
        row = overridden(rows[nearest], self.given)
        parts = parts_of(train, test)
        chosen, labels_used = self._chosen(parts.train)
        parts, recipe = parts._replace(train=chosen), f"{name}, {nearest:g} %"
        metrics, settings = fine_tuned(subject, recipe, row, parts, seed=self.seed, precision=self.precision, tell=tell)
        return metrics, settings | {"percent": self.percent, "labels_used": labels_used}

    def _chosen(self, train: Source) -> tuple[Subset, str]:
        if self.list is None:
            drawn = f"a drawn share of {self.percent:g} % of each class: not the papers' list of images"
            return share_of(train, self.percent, self.seed), drawn
        file = Path(self.list).expanduser()
        names = [line for _, line in read_lines(file)]
        return listed(train, names, self.list), f"the {len(names)} images of {file.name}"
