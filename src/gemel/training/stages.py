"""The stages of a run: the first, and a second one where `then` has epochs."""

from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter

from gemel.backbones.base import check_size
from gemel.methods.base import Method
from gemel.settings.recipes import Optimizer, Views
from gemel.settings.tree import Settings

_VIEWS: TypeAdapter[Any] = TypeAdapter(Annotated[Views, Field(discriminator="name")])
_OPTIMIZER: TypeAdapter[Any] = TypeAdapter(Annotated[Optimizer, Field(discriminator="name")])


class Stage(NamedTuple):
    """One stage of a run."""

    number: int
    name: str
    """as in `Method.stages` and in metrics.csv"""
    views: Views
    optimizer: Optimizer
    epochs: int
    before: int
    """epochs of the stages before it"""


def stages_of(settings: Settings, method: Method) -> list[Stage]:
    """The stages in their order, from settings without gaps."""
    assert settings.views is not None and settings.optimizer is not None and settings.epochs is not None
    stages = [Stage(0, method.stages[0], settings.views, settings.optimizer, settings.epochs, 0)]
    then = settings.then
    if then.epochs and settings.train == "last":  # of the same vectors, as the tail now gives them
        optimizer = _OPTIMIZER.validate_python(then.optimizer)
        stages.append(Stage(1, method.stages[0], settings.views, optimizer, then.epochs, settings.epochs))
    elif then.epochs:
        views, optimizer = _VIEWS.validate_python(then.views), _OPTIMIZER.validate_python(then.optimizer)
        stages.append(Stage(1, method.stages[1], views, optimizer, then.epochs, settings.epochs))
    return stages


def check_views(settings: Settings, method: Method) -> None:
    """Try the backbone on views of every size that the stages have.

    Raises:
        UserError: it does not take views of a size.
    """
    assert settings.backbone is not None and settings.image_size is not None
    for prefix, stage in zip(("--views", "--then.views"), stages_of(settings, method), strict=False):
        for size in {*stage.views.sizes(settings.image_size)} - {settings.image_size}:
            check_size(method.backbone, settings.backbone["name"], size, f"{prefix}.local_size")
