"""linear: a linear layer on frozen features, fitted to random crops and flips of the images."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import nn

from gemel.data.sources import Source
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.fit_common import outcome_of, own_recipe, parts_of
from gemel.settings.recipes import Count, Share
from gemel.supervised.fit import Fitted, fit
from gemel.supervised.recipes import Fitting, Precision, find_recipe, overridden


def _several(given: Any) -> Any:
    return (given,) if isinstance(given, int | float) else given


Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=1), BeforeValidator(_several)]
"""one rate or several"""

SWEEP = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""learning rates for features of unknown scale"""


class LinearRecipe(Fitting):
    """A paper's numbers, and which features of a vision transformer it used."""

    blocks: NonNegativeInt = 0
    """class tokens of this many last blocks, each through the final norm; 0: what the network gives"""
    patches: bool = False
    """append the mean of the last block's patch tokens"""


def _row(source: str, *lr: float, **values: Any) -> LinearRecipe:
    return LinearRecipe.model_validate({"source": source, "lr": lr, "epochs": 100, "batch_size": 256} | values)


_VIT: dict[str, Any] = {"batch_size": 1024, "scale_lr": True, "interpolation": "bicubic"}
_DINO: dict[str, Any] = {"batch_size": 1024, "scale_lr": True}
_STEPS: dict[str, Any] = {"schedule": "steps", "milestones": (0.6, 0.8), "factor": 0.1}
_SIMCLR: dict[str, Any] = {"epochs": 90, "scale_lr": True}

RECIPES: dict[str, LinearRecipe] = {
    "twist": _row("TWIST README, ResNet-50", 0.2, batch_size=1024),
    "twist-vit": _row("TWIST README, DeiT-S", 0.02, blocks=4, **_VIT),
    "twist-vit-b": _row("TWIST README, ViT-B", 0.0015, blocks=4, **_VIT),
    "barlow_twins": _row("Barlow Twins paper and code", 0.3, weight_decay=1e-6),
    "dino": _row("DINO code's defaults, to be adapted to a checkpoint", 0.001, **_DINO),
    "dino-vit": _row("DINO code, ViT-S", 0.001, blocks=4, **_DINO),
    "dino-vit-b": _row("DINO code, ViT-B", 0.001, blocks=1, patches=True, **_DINO),
    "swav": _row("SwAV code; DeepCluster v2 too", 0.3, weight_decay=1e-6),
    "moco": _row("MoCo v1 and v2 code", 30.0, **_STEPS),
    "moco-v3": _row("MoCo v3 code, ResNet-50", 0.1, epochs=90, batch_size=1024, scale_lr=True),
    "moco-v3-vit": _row("MoCo v3 code, ViT", 3.0, epochs=90, batch_size=1024, scale_lr=True),
    "simsiam": _row("SimSiam code", 0.1, batch_size=4096, optimizer="larc", **_SIMCLR),
    "vicreg": _row("VICReg README", 0.02, weight_decay=1e-6),
    "simclr": _row("SimCLR paper B.6; its decay is not stated: cosine", 0.1, batch_size=4096, nesterov=True, **_SIMCLR),
    "byol": _row(
        "BYOL paper C.1: the best of five rates on held-out training images; code: at a batch of 256",
        *(0.4, 0.3, 0.2, 0.1, 0.05),
        epochs=80,
        batch_size=1024,
        nesterov=True,
        schedule="cosine_steps",
        scale_lr=True,
        interpolation="bicubic",
    ),
    "self-classifier": _row("Self-Classifier code", 0.8, batch_size=1024, optimizer="larc"),
    "lightly": _row("lightly's benchmark", 0.1, **_SIMCLR),
    "vissl": _row("VISSL, final output", 0.3, weight_decay=1e-6, scale_lr=True),
    "solo": _row("solo-learn, ImageNet-100; other rates: Barlow Twins .1, SimCLR 1, SimSiam 30, MoCo 3", 0.3, **_STEPS),
    "sweep": _row("of no paper: rates for features of unknown scale", *SWEEP),
}


class Linear(Evaluation):
    """Fit a linear layer on frozen features with the papers' SGD, crops and flips; several rates in one pass.

    Several rates train as many heads side by side; each is what it would be alone. Defaults are the recipe's.

    Args:
        recipe: whose numbers: twist, twist-vit, barlow_twins, dino, swav, moco, moco-v3, simsiam, vicreg, simclr, byol,
            self-classifier, lightly, vissl, solo, sweep, ...; left out: those of the run's method, else sweep
        lr: learning rate; of several (0.1,0.3,1) the best is taken, see `choose`
        scale_lr: rates are for a batch of 256 and are multiplied by batch_size / 256
        epochs: passes over the images
        batch_size: images per step
        weight_decay: of the layer
        momentum: of SGD
        blocks: of a vision transformer, class tokens of this many last blocks; 0: the network's output
        patches: append the mean of the last block's patch tokens
        drop_last: skip a last batch that is not full
        choose: the best of several rates on a tenth of the training images, held out, or on the test set (optimistic)
        seed: random seed of the layer, the order and the crops
        precision: bf16: the network runs in bfloat16
    """

    def __init__(
        self,
        *,
        recipe: str | None = None,
        lr: Rates | None = None,
        scale_lr: bool | None = None,
        epochs: Count | None = None,
        batch_size: Count | None = None,
        weight_decay: NonNegativeFloat | None = None,
        momentum: Share | None = None,
        blocks: NonNegativeInt | None = None,
        patches: bool | None = None,
        drop_last: bool | None = None,
        choose: Literal["validation", "test"] = "validation",
        seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
        precision: Precision = "32",
    ) -> None:
        self.recipe = None if recipe is None else find_recipe(RECIPES, recipe, "linear")
        self.given: dict[str, Any] = {
            "lr": lr,
            "scale_lr": scale_lr,
            "epochs": epochs,
            "batch_size": batch_size,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "blocks": blocks,
            "patches": patches,
            "drop_last": drop_last,
        }
        self.choose, self.seed = choose, seed
        self.precision: Precision = precision

    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return top1, top5 (from five classes on), mean_per_class, best_...; of several rates the chosen one's."""
        name = self.recipe or _recipe_of(subject)
        row = overridden(RECIPES[name], self.given)
        several = len(row.lr) > 1
        parts = parts_of(train, test, validation=several and self.choose == "validation")
        fitted = fit(
            _features(subject.network, row),
            subject.facts,
            row,
            parts.train,
            parts.tests,
            folder=subject.folder,
            seed=self.seed,
            precision=self.precision,
            tell=tell,
        )
        chosen = _best(fitted) if several else 0
        metrics, settings = outcome_of(name, row, fitted, parts, head=chosen)
        if several:
            last = fitted.history["test"][-1]
            settings["chosen_lr"] = row.lr[chosen]
            settings["top1_of_lr"] = {f"{rate:g}": head["top1"] for rate, head in zip(row.lr, last, strict=True)}
            settings["chosen"] = f"the rate with the best top1 on the {self.choose} images after the last epoch"
        return metrics, settings


def _recipe_of(subject: Subject) -> str:
    """Return the name of the recipe of the run's method for this kind of network."""
    method = own_recipe(subject, "linear").replace("-", "_")
    network = str(subject.facts["name"]).rpartition(":")[2]
    if network.startswith(("vit", "deit")):
        candidates = [f"{method}-vit-b"] * ("_base" in network) + [f"{method}-vit", method]
    else:
        candidates = [method]
    known = {name.replace("-", "_"): name for name in RECIPES}
    return next((known[one] for one in (c.replace("-", "_") for c in candidates) if one in known), "sweep")


def _features(network: nn.Module, row: LinearRecipe) -> nn.Module:
    if not row.blocks and not row.patches:
        return network
    from gemel.backbones.timm import LastBlocks

    return LastBlocks(network, blocks=row.blocks or 1, patches=row.patches)


def _best(fitted: Fitted) -> int:
    """Return the head with the best top1 after the last epoch, the first of equals."""
    last = fitted.history.get("validation", fitted.history["test"])[-1]
    return max(range(len(last)), key=lambda head: (last[head]["top1"], -head))
