"""Views of images that a caller hands over: files, encoded bytes or arrays."""

from collections.abc import Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemel.data.decode import Unreadable, pixels_of
from gemel.data.drawing import put_views
from gemel.data.pixel_values import OPEN, Decoding, Pixels, channels_last
from gemel.data.survey import sample_of, survey
from gemel.errors import UserError
from gemel.settings.recipes import Views

Given = str | PathLike[str] | bytes | bytearray | memoryview | Pixels


def views_of(
    images: Sequence[Given],
    views: Views,
    size: int,
    *,
    seed: int,
    epoch: int,
    index: Sequence[int] | None,
    decoding: Decoding = OPEN,
) -> list[Tensor]:
    """Return the views that training would see of images with these indices in a dataset.

    Args:
        images: files, encoded bytes, or arrays (H, W) or (H, W, C).
        views: the recipe, of which all kinds of views and any number of them are drawn.
        size: side of a global view, pixels.
        seed: of the run, at least 0.
        epoch: at least 0.
        index: of each image, at least 0; None: 0, 1, 2, ...
        decoding: of the dataset; what it leaves open is found from the images, once for all of them.

    Returns:
        V tensors (B, C, side, side), uint8, or float32 from 0 to 255 where the images hold more than 8 bits, or other
        than 1 or 3 channels.

    Raises:
        UserError: an image can't be read, or there are more or fewer indices than images.
    """
    if isinstance(images, str | bytes | Path):
        raise UserError("images must be a list: of files, of bytes, or of arrays")
    if isinstance(index, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError(f"index must be a list of indices, one for each image, not {index}")
    indices = range(len(images)) if index is None else index
    if len(indices) != len(images):
        raise UserError(f"{len(images)} images and {len(indices)} numbers in index; give one for each image")
    if min([seed, epoch, *indices], default=0) < 0:
        raise UserError(f"seed {seed}, epoch {epoch} and the numbers in index must be at least 0")
    decoding = survey([partial(_data, images[number]) for number in sample_of(len(images))], decoding).decoding
    out = [np.empty((len(images), decoding.shown, side, side), decoding.kind) for side in views.sizes(size)]
    for row, (given, number) in enumerate(zip(images, indices, strict=True)):
        pixels = _pixels(given, decoding)
        put_views(views, pixels, [view[row] for view in out], seed=seed, epoch=epoch, index=int(number))
    return [torch.from_numpy(one) for one in out]


def _pixels(given: Given, decoding: Decoding) -> Pixels:
    try:
        return pixels_of(_data(given), decoding)
    except Unreadable as error:
        what = "an image of bytes" if isinstance(given, bytes | bytearray | memoryview) else "an array"
        name = str(given) if isinstance(given, str | PathLike) else what
        raise UserError(f"{name} can't be read: {error}") from error


def _data(given: Any) -> bytes | NDArray[Any]:
    if isinstance(given, np.ndarray):
        found = channels_last(given)
        if given.size == 0 or given.dtype.kind not in "buif" or found.ndim not in (2, 3):
            raise UserError(f"an array must hold numbers, (H, W) or (H, W, C), not {given.dtype} {given.shape}")
        return found
    if not isinstance(given, str | PathLike):
        if not isinstance(given, bytes | bytearray | memoryview):
            raise UserError(f"an image is a file, bytes or an array, not a {type(given).__name__}")
        return bytes(given)
    try:
        return Path(given).read_bytes()
    except OSError as error:
        raise UserError(f"{given} can't be read: {error}") from error
