"""Recipe: views, an optimiser and numbers that were used together, without torch.

What a method's file writes recipes and options with is imported from here.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt

from gemel.settings.description import (
    AtLeastTwo,
    Colour,
    Count,
    Description,
    HeadCount,
    Ordered,
    Probability,
    Share,
    Side,
    Widths,
)
from gemel.settings.optimizers import (
    OPTIMIZERS,
    AdamOptimizer,
    AdamWOptimizer,
    LarsOptimizer,
    Optimizer,
    SgdOptimizer,
)
from gemel.settings.views import (
    IMAGE_VIEWS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    VIEWS,
    GlyphViews,
    PhotoViews,
    VectorViews,
    Views,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "IMAGE_VIEWS",
    "OPTIMIZERS",
    "VIEWS",
    "AdamOptimizer",
    "AdamWOptimizer",
    "AtLeastTwo",
    "Colour",
    "Count",
    "Description",
    "GlyphViews",
    "HeadCount",
    "LarsOptimizer",
    "Optimizer",
    "Ordered",
    "PhotoViews",
    "Probability",
    "Recipe",
    "SgdOptimizer",
    "Share",
    "Side",
    "Stage",
    "VectorViews",
    "Views",
    "Widths",
    "split_name",
]


class Stage(Description):
    """A second stage of a run, with its own views, rate, epochs and progress; the optimiser keeps its state."""

    epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """passes over the images in the second stage; 0: there is none"""
    views: Mapping[str, Any] = {}
    """where they differ from the first stage's"""
    optimizer: Mapping[str, Any] = {}
    """where it differs from the first stage's"""


class Recipe(Description):
    """Settings that a paper, or an experiment of ours, used together."""

    source: str
    """where the numbers come from, and what they gave"""
    views: Annotated[Views, Field(discriminator="name")]
    optimizer: Annotated[Optimizer, Field(discriminator="name")]
    backbone: Mapping[str, Any]
    """name of the network, and its options"""
    epochs: Count
    batch_size: Count
    image_size: Side
    method: Mapping[str, Any] = {}
    """the method's own options where they differ from the constructor's defaults"""
    then: Stage = Stage()
    """a second stage"""
    images: NonNegativeInt = 1_281_167
    """number of images for which `epochs` was meant"""


def split_name(words: str) -> tuple[str, str]:
    """The method and the recipe of `twist/resnet50`, or of a file with slashes of its own; the recipe may be left out.

    >>> split_name("twist/resnet50"), split_name("twist"), split_name("./mine.py/small")
    (('twist', 'resnet50'), ('twist', ''), ('./mine.py', 'small'))
    """
    if words.endswith(".py"):
        return words, ""
    file, inside, wanted = words.rpartition(".py/")
    if inside:
        return f"{file}.py", wanted
    name, _, wanted = words.partition("/")
    return name, wanted
