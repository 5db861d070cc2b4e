"""The numbers of detection and segmentation as the papers' code has them, and the rates that follow; no torch."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from gemel.settings.recipes import Count, Description, Share

DetectorName = Literal["fpn", "c4"]
Norm = Literal["batch", "frozen"]


class Dense(Description):
    """Stochastic gradient descent on a batch of images of any size."""

    source: str
    """where the numbers come from"""
    steps: Count
    """in all"""
    batch_size: Count
    """images a step, over all processes"""
    lr: PositiveFloat
    """highest rate"""
    momentum: Share = 0.9
    """share of the momentum that is kept"""
    weight_decay: NonNegativeFloat
    """of the parameters"""


class Detecting(Dense):
    """A detector's numbers; decay is 0 on norms."""

    detector: DetectorName
    """fpn: a feature pyramid; c4: the fourth stage on each region"""
    masks: bool
    """instance segmentation too"""
    falls: tuple[NonNegativeInt, ...]
    """steps after which the rate is a tenth"""
    warmup: NonNegativeInt
    """steps of a straight line to the highest rate"""
    warmup_from: Share = 0.001
    """of the highest rate"""
    sizes: tuple[Count, ...]
    """shorter sides that training images are resized to, one drawn for each, pixels"""
    test_size: Count
    """shorter side of the images that are judged, pixels"""
    longest: Count = 1333
    """of the longer side, pixels"""
    channels: Count = 256
    """of the pyramid and its heads"""
    convs: NonNegativeInt = 4
    """of the box head"""
    width: Count = 1024
    """of its fully connected layer"""
    rois: Count = 512
    """regions sampled of an image"""
    anchors: Count = 256
    """anchors sampled of an image"""
    anchor_scale: PositiveFloat = 8.0
    """side of the anchors in strides of their map, of fpn"""
    proposals: tuple[Count, Count, Count, Count] | None = None
    """before suppression in training and at test, after it in training and at test; none: the detector's"""
    norm: Norm = "batch"
    """frozen: the backbone's batch norms stay as they are"""
    precise: NonNegativeInt = 200
    """batches that the norms' statistics are measured on in the end"""
    momentum: Share = 0.9
    weight_decay: NonNegativeFloat = 1e-4

    @property
    def boxes_kept(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Proposals before and after suppression, each in training and at test."""
        before = (2000, 1000, 1000, 1000) if self.detector == "fpn" else (12000, 6000, 2000, 1000)
        one, two, three, four = self.proposals or before
        return (one, two), (three, four)

    def rate_factor(self, step: int) -> float:
        """Return the rate of a step as a share of the highest.

        >>> [round(RECIPES["twist"]["voc"].rate_factor(step), 6) for step in (0, 1, 99, 100, 18000, 22000)]
        [0.001, 0.01099, 0.99001, 1.0, 0.1, 0.01]
        """
        share = step / self.warmup if step < self.warmup else 1.0
        return (self.warmup_from * (1 - share) + share) * 0.1 ** sum(step >= one for one in self.falls)


_VOC: dict[str, Any] = {
    "masks": False, "steps": 24_000, "falls": (18_000, 22_000), "batch_size": 16, "lr": 0.02, "warmup": 100,
    "sizes": tuple(range(480, 801, 32)), "test_size": 800,
}  # fmt: skip
_COCO: dict[str, Any] = _VOC | {
    "masks": True, "steps": 90_000, "falls": (60_000, 80_000), "warmup": 1_000, "sizes": tuple(range(640, 801, 32)),
}  # fmt: skip
_C4: dict[str, Any] = {"detector": "c4"}


def _with(*parts: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return what later parts and words say, over the earlier ones."""
    return {key: value for part in (*parts, more) for key, value in part.items()}


RECIPES: dict[str, dict[str, Detecting]] = {
    "twist": {
        "voc": Detecting(source="TWIST detection/, VOC07+12", detector="fpn", **_VOC),
        "coco": Detecting(source="TWIST detection/, COCO 1x", detector="fpn", **_COCO),
    },
    "barlow_twins": {
        "voc": Detecting(
            source="Barlow Twins 4.4; VISSL's sBNextraNorm_precBN",
            **_with(_VOC, _C4, lr=0.1, warmup=1_000, warmup_from=0.333),
        ),
        "coco": Detecting(
            source="Barlow Twins 4.4, COCO 1x; trained from the first stage on, warm-up and norm are not stated",
            **_with(_COCO, _C4, lr=0.03),
        ),
    },
    "moco": {
        "voc": Detecting(source="MoCo detection/, VOC07+12", **_with(_VOC, _C4)),
        "coco": Detecting(source="MoCo, COCO 1x", **_with(_COCO, _C4)),
    },
    "moco-2x": {
        "coco": Detecting(
            source="MoCo detection/, COCO 2x", **_with(_COCO, _C4, steps=180_000, falls=(120_000, 160_000)),
        ),
    },
    "small": {
        kind: Detecting(
            source="gemel's own, for a few hundred small images", detector="fpn", masks=kind == "coco", steps=300,
            falls=(225, 275), batch_size=4, lr=0.02, warmup=50, sizes=(128,), test_size=128, channels=64, convs=4,
            width=256, rois=64, anchors=64, anchor_scale=4.0, proposals=(500, 500, 200, 200), precise=20,
        )
        for kind in ("voc", "coco")
    },
}  # fmt: skip
"""by name and kind of set: voc, or coco with masks"""


class Segmenting(Dense):
    """A segmenter's numbers; all parameters decay."""

    stride: Literal[8, 16]
    """of the fourth stage's map, after dilation"""
    head: Literal["fcn", "dilated"]
    """fcn: two convolutions, and one on their input and output together; dilated: two of rate 6"""
    channels: Count
    """of the head"""
    auxiliary: NonNegativeInt
    """channels of the head on the third stage; 0: there is none"""
    auxiliary_weight: NonNegativeFloat = 0.4
    """of its loss"""
    schedule: Literal["poly", "falls"]
    """poly: (1 - i/n)^0.9 down to a hundredth of the rate; falls: a tenth after 70 and 90 % of the steps"""
    box: tuple[Count, Count] | None
    """longer and shorter side that images are fitted into; none: as they are"""
    crop: Count
    """side of a training crop, pixels"""
    test: Literal["whole", "windows", "middle"]
    """how images are judged: whole, in overlapping windows of the crop's side, or the middle crop alone"""
    window_stride: Count = 513
    """between windows, pixels"""
    align_corners: bool = False
    """how maps are resized"""
    normalised_by: Literal["all pixels"] = "all pixels"
    """what the sum of the loss is divided by, ignored ones included"""

    def rate(self, step: int) -> float:
        """Return the rate of a step.

        >>> [round(SEGMENTING["twist"]["voc"].rate(step), 9) for step in (0, 1, 10000, 19999)]
        [0.01, 0.009999554, 0.005405279, 0.000101333]
        """
        if self.schedule == "falls":
            return self.lr * 0.1 ** sum(step >= share * self.steps for share in (0.7, 0.9))
        least = min(1e-4, self.lr)
        return (self.lr - least) * (1 - step / self.steps) ** 0.9 + least


_TWIST = Segmenting(
    source="DenseCL's configuration, FCN on VOC12 aug", steps=20_000, batch_size=16, lr=0.01, weight_decay=5e-4,
    stride=8, head="fcn", channels=512, auxiliary=256, schedule="poly", box=(2048, 512), crop=512, test="whole",
)  # fmt: skip

SEGMENTING: dict[str, dict[str, Segmenting]] = {
    "twist": {
        "voc": _TWIST,
        "cityscapes": _TWIST.model_copy(
            update={
                "source": "DenseCL's configuration, FCN on Cityscapes", "steps": 40_000, "batch_size": 8,
                "box": (2049, 1025), "crop": 769, "test": "windows", "align_corners": True,
            }
        ),
    },
    "byol": {
        kind: Segmenting(
            source="BYOL appendix E; the rate is swept", steps=30_000, batch_size=16, lr=0.003, weight_decay=1e-4,
            stride=16, head="dilated", channels=256, auxiliary=0, schedule="falls", box=None, crop=513, test="middle",
        )
        for kind in ("voc", "cityscapes")
    },
    "small": {
        kind: _TWIST.model_copy(
            update={
                "source": "gemel's own, for a few hundred small images", "steps": 200, "batch_size": 4, "channels": 64,
                "auxiliary": 32, "box": None, "crop": 96,
            }
        )
        for kind in ("voc", "cityscapes")
    },
}  # fmt: skip
"""by name and kind of set: voc, or cityscapes"""

Recipe = TypeVar("Recipe", Detecting, Segmenting)


def resolved(recipe: Recipe, given: Mapping[str, Any]) -> tuple[Recipe, str]:
    """Return a recipe with the user's values, and what was scaled to them, in words; empty: nothing.

    A batch of k times the recipe's scales what is not given: the rate by k, steps, falls and warm-up by 1 / k, as
    Detectron2's `auto_scale_workers` does. Other steps alone move the falls with them; a warm-up fills a third of the
    steps at most.

    >>> recipe, words = resolved(RECIPES["twist"]["voc"], {"batch_size": 8})
    >>> recipe.lr, recipe.steps, recipe.falls, recipe.warmup, words
    (0.01, 48000, (36000, 44000), 200, 'batch 16: lr 0.02, steps 24000, falls (18000, 22000), warmup 100')
    """
    chosen = {key: value for key, value in given.items() if value is not None}
    share = chosen.get("batch_size", recipe.batch_size) / recipe.batch_size
    scaled: dict[str, Any] = {}
    if share != 1:
        scaled = {"lr": recipe.lr * share, "steps": max(1, round(recipe.steps / share))}
    steps = chosen.get("steps", scaled.get("steps", recipe.steps))
    if isinstance(recipe, Detecting):
        falls = tuple(round(one * steps / recipe.steps) for one in recipe.falls)
        warmup = round(recipe.warmup / share)
        scaled |= {"falls": falls, "warmup": min(warmup, steps // 3)}
    scaled = {key: value for key, value in scaled.items() if key not in chosen and value != getattr(recipe, key)}
    before = [f"{key} {getattr(recipe, key)}" for key in ("lr", "steps", "falls", "warmup") if key in scaled]
    words = f"batch {recipe.batch_size}: {', '.join(before)}" if before and share != 1 else ", ".join(before)
    return recipe.model_copy(update=scaled | chosen), words


def departures(recipe: Dense, published: Dense, ignored: Sequence[str] = ("source",)) -> list[str]:
    """Return in which numbers a recipe differs from the published one, in words."""
    own, other = recipe.model_dump(), published.model_dump()
    return [f"{key} {own[key]}, published {other[key]}" for key in own if key not in ignored and own[key] != other[key]]
