"""finetune: network and a new linear layer are fitted together; on random weights, the supervised baseline."""

from typing import Annotated, Any

from pydantic import Field, NonNegativeFloat, PositiveFloat

from gemel.data.sources import Source
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.fit_common import SCRATCH, fine_tuned, given_of, parts_of, recipe_of
from gemel.settings.recipes import Count, Share
from gemel.supervised.recipes import Fitting, Precision, find_recipe, overridden

RECIPES: dict[str, Fitting] = {
    "twist": Fitting(
        source="TWIST README, ResNet-50, 100 % of the labels", epochs=30, batch_size=256, lr=(0.2,), backbone_lr=0.01
    ),
    "lightly": Fitting(
        source="lightly's benchmark", epochs=30, batch_size=256, lr=(0.05,), backbone_lr=0.05, scale_lr=True
    ),
    "scratch": SCRATCH,
}


class Finetune(Evaluation):
    """Fit the network and a new linear layer together with SGD, each with its own learning rate.

    On random weights (--network random) it is the supervised baseline. Defaults are the recipe's.

    Args:
        recipe: whose numbers: twist, lightly, scratch; left out: scratch for random weights, else the method's or twist
        lr: learning rate of the layer
        backbone_lr: learning rate of the network
        scale_lr: rates are for a batch of 256 and are multiplied by batch_size / 256
        epochs: passes over the images
        batch_size: images per step
        weight_decay: of all parameters
        momentum: of SGD
        drop_last: skip a last batch that is not full; one of a single image is always skipped
        seed: random seed of the layer, the order and the crops
        precision: bf16: the network runs in bfloat16
    """

    def __init__(
        self,
        *,
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
        self.recipe = None if recipe is None else find_recipe(RECIPES, recipe, "finetune")
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
        name = self.recipe or recipe_of(subject, RECIPES, "finetune")
        row = overridden(RECIPES[name], self.given)
        parts = parts_of(train, test)
        return fine_tuned(subject, name, row, parts, seed=self.seed, precision=self.precision, tell=tell)
