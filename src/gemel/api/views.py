"""`gemel.views`: the views that training would see."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gemel.errors import UserError, brief
from gemel.runs.run import Run
from gemel.settings.recipes import IMAGE_VIEWS, VectorViews, Views
from gemel.settings.schema import convert, mistakes_in
from gemel.settings.tree import nest, written_out

if TYPE_CHECKING:
    from torch import Tensor


def views(
    images: Sequence[str | Path | bytes | np.ndarray],
    recipe: str | Mapping[str, Any] | Run,
    *,
    seed: int = 0,
    epoch: int = 0,
    index: Sequence[int] | None = None,
) -> "list[Tensor]":
    """Return the views that training would see.

    Args:
        images: files, encoded bytes, or arrays (H, W) or (H, W, C).
        recipe: a method or METHOD/RECIPE (as published, not fitted to the images); a run, or its settings; or
            {"name": "photo", "size": 96, ...}, or a paper's views by their name, as byol or dino. The size is 224
            unless given.
        seed: of the run.
        epoch: from 0.
        index: indices of the images in the dataset; left out: 0, 1, 2, ...

    Returns:
        V tensors (B, 3, H, W), uint8; of images of more than 8 bits, or other than 1 or 3 channels, (B, C, H, W),
        float32 from 0 to 255.

    Raises:
        UserError: an image can't be read, or the recipe is unknown.
    """
    from gemel.data.pixel_values import Decoding
    from gemel.data.preview import views_of

    settings = recipe.settings if isinstance(recipe, Run) else recipe if isinstance(recipe, Mapping) else {}
    described, size = _described(recipe, settings)
    decoding = Decoding.of(settings)
    return views_of(images, described, size, seed=seed, epoch=epoch, index=index, decoding=decoding)


def _described(recipe: Any, settings: Mapping[str, Any]) -> tuple[Views, int]:
    if isinstance(recipe, str):
        from gemel.methods import find_recipe

        found = find_recipe(recipe, named=True)[1]
        if isinstance(found.views, VectorViews):
            raise UserError(f"{brief(recipe)} takes vectors, which have no views; name another recipe")
        return found.views, found.image_size
    given = written_out(nest({"views": settings.get("views", settings)})).get("views")
    name = given.get("name", "photo") if isinstance(given, Mapping) and given else None
    if not isinstance(given, Mapping) or not isinstance(name, str) or name not in IMAGE_VIEWS:
        raise UserError(
            f"{brief(recipe)} names no views; give METHOD, METHOD/RECIPE or a mapping with `name`: photo, byol ..."
        )
    size = given.get("size", settings.get("image_size", 224))
    values = {key: value for key, value in given.items() if key != "size"}
    wrong = mistakes_in(values, IMAGE_VIEWS[name].model_fields, lambda key: f"views.{key}", title=name)
    if not isinstance(size, int) or not 4 <= size <= 4096:
        wrong.append(f"size must be a number of pixels from 4 to 4096, not {brief(size)}")
    if wrong:
        raise UserError(*wrong)
    return IMAGE_VIEWS[name](**convert(IMAGE_VIEWS[name], values, "views")), size
