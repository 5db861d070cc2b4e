"""Views of images that a caller hands over: files, encoded bytes or arrays."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gemel.data.augment import Pixels
from gemel.data.batches import put_views
from gemel.data.decode import Unreadable, decode
from gemel.errors import UserError
from gemel.settings.recipes import Views

Given = str | PathLike[str] | bytes | bytearray | memoryview | Pixels


def views_of(
    images: Sequence[Given], views: Views, size: int, *, seed: int, epoch: int, index: Sequence[int] | None
) -> list[Tensor]:
    """The views that training would see of images at these places of a data set:
    V tensors (B, 3, side, side), uint8; side is `size` for the global ones.

    Raises:
        UserError: an image can't be read, or there are more or fewer places than images.
    """
    if isinstance(images, str | bytes | Path):
        raise UserError("images must be a list: of files, of bytes, or of arrays")
    if isinstance(index, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"index must be a list of places, one for each image, not {index}")
    places = range(len(images)) if index is None else index
    if len(places) != len(images):
        raise UserError(f"{len(images)} images and {len(places)} places in index; give one place for each image")
    if min([seed, epoch, *places], default=0) < 0:
        raise UserError(f"seed {seed}, epoch {epoch} and the places in index must be at least 0")
    out = [np.empty((len(images), 3, side, side), np.uint8) for side in views.sizes(size)]
    for row, (given, place) in enumerate(zip(images, places, strict=True)):
        put_views(views, _pixels(given), [view[row] for view in out], seed=seed, epoch=epoch, index=int(place))
    return [torch.from_numpy(one) for one in out]


def _pixels(given: Given) -> Pixels:
    if isinstance(given, np.ndarray):
        if (
            given.size == 0
            or given.dtype != np.uint8
            or not (given.ndim == 2 or (given.ndim == 3 and given.shape[2] == 3))
        ):
            raise UserError(f"an array must be uint8, not empty, (H, W) or (H, W, 3), not {given.dtype} {given.shape}")
        return given
    if not isinstance(given, str | PathLike | bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"an image is a file, bytes or a uint8 array, not a {type(given).__name__}")
    is_file = isinstance(given, str | PathLike)
    try:
        return decode(Path(given).read_bytes() if is_file else bytes(given))
    except (Unreadable, OSError) as error:
        name = str(given) if is_file else "an image of bytes"
        raise UserError(f"{name} can't be read: {error}") from error
