"""Views of images with label maps: resized, cropped, flipped, distorted; mmsegmentation's pipeline."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from gemel.data.dense.label_maps import Labels
from gemel.data.dense.objects import nearest
from gemel.data.views import dense_generator
from gemel.metrics.dense.miou import IGNORED

Pixels = NDArray[np.uint8]

RATIOS = (0.5, 2.0)
"""range of the factor of the resized image"""

MOST_OF_A_CLASS = 0.75
"""share of a crop's known pixels above which it is drawn again"""

TRIES = 10
"""further crops that are drawn"""

BRIGHTNESS, CONTRAST, SATURATION, HUE = 32.0, (0.5, 1.5), (0.5, 1.5), 36.0
"""ranges of the photometric distortion; the hue in degrees"""


class LabelView(NamedTuple):
    """An image and its label map, cropped; smaller than the crop where the image is."""

    image: Pixels
    """(3, h, w)"""
    labels: Labels
    """(h, w)"""


def fitted_sides(size: tuple[int, int], box: tuple[int, int] | None, ratio: float = 1.0) -> tuple[int, int]:
    """Return height and width of an image that is to fit into a box, its aspect kept.

    Args:
        size: of the image.
        box: the longer and the shorter side; None: those of the image.
        ratio: that the box is multiplied by.

    >>> fitted_sides((375, 500), (2048, 512)), fitted_sides((375, 500), None, 0.5)
    ((512, 683), (188, 250))
    """
    if box is None:
        scale = ratio
    else:
        longer, shorter = (int(side * ratio) for side in box)
        scale = min(longer / max(size), shorter / min(size))
    height, width = (max(1, int(side * scale + 0.5)) for side in size)
    return height, width


def view_of(
    image: Pixels,
    labels: Labels,
    *,
    box: tuple[int, int] | None,
    crop: int,
    seed: int,
    epoch: int,
    index: int,
) -> LabelView:
    """Draw and make the view of an image; a function of (seed, epoch, index).

    Args:
        image: (H, W) or (H, W, 3).
        labels: (H, W).
        box: that it is fitted into, times a factor of `RATIOS`; None: its own size, times the factor.
        crop: side, pixels.
        seed: with the next two, what the draws are a function of.
        epoch: pass over the images.
        index: of the image.
    """
    random = dense_generator(seed=seed, epoch=epoch, index=index)
    sides = fitted_sides((labels.shape[0], labels.shape[1]), box, float(random.uniform(*RATIOS)))
    pixels, shown = bilinear(planes_of(image), sides), nearest(labels, sides)
    place = _place(shown, crop, random)
    pixels, shown = pixels[:, *place], shown[place]
    if random.random() < 0.5:
        pixels, shown = pixels[:, :, ::-1], shown[:, ::-1]
    return LabelView(distorted(pixels, random), np.ascontiguousarray(shown))


def planes_of(image: Pixels) -> Pixels:
    """Return (3, H, W) of an image (H, W) or (H, W, 3)."""
    return np.ascontiguousarray(
        np.broadcast_to(image, (3, *image.shape)) if image.ndim == 2 else image.transpose(2, 0, 1)
    )


def bilinear(planes: Pixels, sides: tuple[int, int]) -> Pixels:
    """Resize (C, H, W) by two weights a side, without antialiasing, as OpenCV does and Pillow does not."""
    floats = torch.from_numpy(planes).float()[None]
    found = interpolate(floats, sides, mode="bilinear", align_corners=False)[0]
    return found.add_(0.5).floor_().clamp_(0, 255).to(torch.uint8).numpy()


def distorted(planes: Pixels, random: np.random.Generator) -> Pixels:
    """Change brightness, contrast, saturation and hue, each by chance one half; contrast before or after colours."""
    values = planes.astype(np.float32)
    changed = random.random(4) < 0.5
    late = random.random() < 0.5
    shift, contrast = float(random.uniform(-BRIGHTNESS, BRIGHTNESS)), float(random.uniform(*CONTRAST))
    saturation, hue = float(random.uniform(*SATURATION)), float(random.uniform(-HUE, HUE))
    if changed[0]:
        values = _clipped(values + shift)
    if changed[1] and not late:
        values = _clipped(values * contrast)
    if changed[2] or changed[3]:
        values = _recoloured(values, saturation if changed[2] else 1.0, hue if changed[3] else 0.0)
    if changed[1] and late:
        values = _clipped(values * contrast)
    return np.floor(values + 0.5).astype(np.uint8)


def _clipped(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(values, 0, 255)


def _recoloured(values: NDArray[np.float32], saturation: float, hue: float) -> NDArray[np.float32]:
    """Multiply the saturation (clipped to 1) and turn the hue by degrees, keeping the largest channel."""
    red, green, blue = values
    value = values.max(0)
    chroma = value - values.min(0)
    safe = np.where(chroma > 0, chroma, 1)
    blue_or_green = np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4)
    sixths = np.where(value == red, (green - blue) / safe, blue_or_green) + hue / 60
    chroma = np.minimum(chroma * saturation, value)
    found: list[NDArray[np.float32]] = []
    for offset in (5, 3, 1):
        k = (sixths + offset) % 6
        found.append(value - chroma * np.clip(np.minimum(k, 4 - k), 0, 1))
    return np.stack(found).astype(np.float32)


def _place(labels: Labels, crop: int, random: np.random.Generator) -> tuple[slice, slice]:
    """Draw where the crop lies, again where one class fills nearly all of it."""
    place = (slice(0), slice(0))
    for _ in range(TRIES + 1):
        top, left = (int(random.integers(max(side - crop, 0) + 1)) for side in labels.shape)
        place = (slice(top, top + crop), slice(left, left + crop))
        counts = np.bincount(labels[place].ravel(), minlength=256)[:IGNORED]
        if (counts > 0).sum() > 1 and counts.max() < MOST_OF_A_CLASS * counts.sum():
            break
    return place
