"""Views of images that a caller hands over: files, encoded bytes or arrays."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gemel.data.augment import Pixels, apply
from gemel.data.decode import Unreadable, decode
from gemel.data.views import draw
from gemel.errors import UserError
from gemel.recipes import Views

Given = str | Path | bytes | Pixels


def views_of(
    images: Sequence[Given], views: Views, size: int, *, seed: int, epoch: int, index: Sequence[int] | None
) -> list[Tensor]:
    """The views that training would see of images at these places of a data set: V tensors (B, 3, size, size), uint8.

    Raises:
        UserError: an image can't be read, or there are more or fewer places than images.
    """
    places = range(len(images)) if index is None else index
    if len(places) != len(images):
        raise UserError(f"{len(images)} images and {len(places)} places in index; give one place for each image")
    out = np.empty((views.count, len(images), 3, size, size), np.uint8)
    for row, (given, place) in enumerate(zip(images, places, strict=True)):
        image = _pixels(given)
        height, width = image.shape[:2]
        for number in range(views.count):
            numbers = draw(
                views, seed=seed, epoch=epoch, index=int(place), view=number, height=height, width=width, size=size
            )
            view = apply(image, numbers)
            out[number, row] = view if view.ndim == 2 else view.transpose(2, 0, 1)
    return [torch.from_numpy(one) for one in out]


def _pixels(given: Given) -> Pixels:
    if isinstance(given, np.ndarray):
        if given.dtype != np.uint8 or not (given.ndim == 2 or (given.ndim == 3 and given.shape[2] == 3)):
            raise UserError(f"an array must be uint8 (H, W) or (H, W, 3), not {given.dtype} {given.shape}")
        return given
    try:
        return decode(given if isinstance(given, bytes) else Path(given).read_bytes())
    except (Unreadable, OSError) as error:
        name = "an image of bytes" if isinstance(given, bytes) else str(given)
        raise UserError(f"{name} can't be read: {error}") from error
