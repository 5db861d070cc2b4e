"""Views of images that a caller hands over: files, encoded bytes or arrays."""

from collections.abc import Sequence
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gemel.data.augment import Pixels
from gemel.data.decode import Unreadable, decode
from gemel.data.drawing import put_views
from gemel.data.pixel_values import OPEN, Decoding
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
        images: files, encoded bytes, or uint8 arrays (H, W) or (H, W, 3).
        views: the recipe, of which all kinds of views and any number of them are drawn.
        size: side of a global view, pixels.
        seed: of the run, at least 0.
        epoch: at least 0.
        index: of each image, at least 0; None: 0, 1, 2, ...
        decoding: of the dataset; what it leaves open is found from the images, once for all of them.

    Returns:
        V tensors (B, 3, side, side), uint8.

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
    files = [one for one in images if not isinstance(one, np.ndarray)]
    decoding = survey([partial(_bytes, files[number]) for number in sample_of(len(files))], decoding).decoding
    out = [np.empty((len(images), 3, side, side), np.uint8) for side in views.sizes(size)]
    for row, (given, number) in enumerate(zip(images, indices, strict=True)):
        pixels = _pixels(given, decoding)
        put_views(views, pixels, [view[row] for view in out], seed=seed, epoch=epoch, index=int(number))
    return [torch.from_numpy(one) for one in out]


def _pixels(given: Given, decoding: Decoding) -> Pixels:
    if isinstance(given, np.ndarray):
        if (
            given.size == 0
            or given.dtype != np.uint8
            or not (given.ndim == 2 or (given.ndim == 3 and given.shape[2] == 3))
        ):
            raise UserError(f"an array must be uint8, not empty, (H, W) or (H, W, 3), not {given.dtype} {given.shape}")
        return given
    try:
        return decode(_bytes(given), decoding)
    except Unreadable as error:
        name = str(given) if isinstance(given, str | PathLike) else "an image of bytes"
        raise UserError(f"{name} can't be read: {error}") from error


def _bytes(given: Given) -> bytes:
    if not isinstance(given, str | PathLike):
        if not isinstance(given, bytes | bytearray | memoryview):
            raise UserError(f"an image is a file, bytes or a uint8 array, not a {type(given).__name__}")
        return bytes(given)
    try:
        return Path(given).read_bytes()
    except OSError as error:
        raise UserError(f"{given} can't be read: {error}") from error
