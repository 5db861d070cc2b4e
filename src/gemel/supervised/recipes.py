"""The numbers of a supervised fit, as typed values without torch, and the rates that follow from them."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import Field, NonNegativeFloat, PositiveFloat

from gemel.errors import UserError, brief, nearest
from gemel.schedules import cosine, steps
from gemel.settings.recipes import Count, Description, GlyphViews, PhotoViews, Probability, Share, Views

Precision = Literal["32", "bf16"]
"""of a network's arithmetic; heads are float32"""


class Fitting(Description):
    """Stochastic gradient descent on the cross entropy, heads from N(0, 0.01²) with bias 0."""

    source: str
    """where the numbers come from"""
    epochs: Count
    """passes over the images"""
    batch_size: Count
    """images a step, over all processes"""
    lr: tuple[PositiveFloat, ...] = Field(min_length=1)
    """rate of the head; several: as many heads, side by side on the same frozen features"""
    backbone_lr: PositiveFloat | None = None
    """rate of the backbone; none: it is frozen"""
    scale_lr: bool = False
    """the rates hold for a batch of 256 and are multiplied by batch_size / 256"""
    weight_decay: NonNegativeFloat = 0.0
    """decay of every parameter that is fitted"""
    momentum: Share = 0.9
    """share of the momentum that is kept"""
    nesterov: bool = False
    """momentum that looks ahead"""
    optimizer: Literal["sgd", "larc"] = "sgd"
    """larc: each tensor's step is scaled by 0.001 |w| / |g + βw|, without clipping"""
    schedule: Literal["cosine", "cosine_steps", "steps"] = "cosine"
    """cosine: (1 + cos(π e / E)) / 2 in epoch e of E; cosine_steps: so at each step; steps: falls at milestones"""
    milestones: tuple[Probability, ...] = ()
    """shares of the epochs after which the rate falls"""
    factor: PositiveFloat = 0.1
    """what the rate is multiplied by at a milestone"""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """how a training crop of a photo is resized"""
    drop_last: bool = False
    """leave out the last batch of an epoch if it is not full"""

    @property
    def scale(self) -> float:
        """The factor of all rates."""
        return self.batch_size / 256 if self.scale_lr else 1.0

    def rate_factor(self, epoch: int, step: int, steps_per_epoch: int) -> float:
        """Return the rate at a step of an epoch, as a share of the highest.

        >>> row = Fitting(source="", epochs=100, batch_size=256, lr=(0.3,))
        >>> f"{row.rate_factor(99, 0, 10):.3e}"
        '2.467e-04'
        """
        if self.schedule == "steps":
            return steps(epoch / self.epochs, self.milestones, self.factor)
        done = epoch + (step / steps_per_epoch if self.schedule == "cosine_steps" else 0.0)
        return cosine(done / self.epochs, 1.0, 0.0)

    def views(self, facts: Mapping[str, Any]) -> Views:
        """Return the training views of supervised protocols: random resized crop and flip; for glyphs, moves and bends.

        Args:
            facts: of backbone.json: views, mean, std.
        """
        mean, std = tuple(facts["mean"]), tuple(facts["std"])
        if facts["views"] == "glyph":
            return GlyphViews(mean=mean, std=std)
        nothing = (0.0, 0.0)
        return PhotoViews(
            interpolation=self.interpolation,
            jitter=0.0,
            gray=0.0,
            blur=nothing,
            solarize=nothing,
            mean=mean,
            std=std,
        )


Row = TypeVar("Row", bound=Fitting)


def find_recipe(recipes: Mapping[str, Any], name: str, protocol: str) -> str:
    """Return the key of a recipe, whose words may be joined by - or _.

    Raises:
        UserError: there is none of that name.

    >>> find_recipe({"moco-v3": 1}, "moco_v3", "linear")
    'moco-v3'
    """
    for key in recipes:
        if key.replace("-", "_") == name.replace("-", "_").lower():
            return key
    known = f"there are {', '.join(recipes)}{nearest(name, recipes)}"
    raise UserError(f"--recipe {brief(name)!r} is unknown to {protocol}; {known}")


def overridden(fitting: Row, given: Mapping[str, Any]) -> Row:
    """Return the recipe with the values that the user gave; None means the recipe's."""
    return fitting.model_copy(update={name: value for name, value in given.items() if value is not None})
