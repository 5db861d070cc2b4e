"""Pixels and numbers to a view; and the one crop without chance, of evaluation."""

from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from gemel.data.views import GRID, Draw, GlyphDraw, PhotoDraw

Pixels = NDArray[np.uint8]
"""(H, W) of a grey image or (H, W, 3)"""

Floats = NDArray[np.float32]


def apply(image: Pixels, draw: Draw) -> Pixels:
    """The view that `draw` describes, (size, size) of a grey image or (size, size, 3)."""
    if isinstance(draw, GlyphDraw):
        return _apply_glyph(image, draw)
    return _apply_photo(image, draw)


def center(image: Pixels, size: int, *, glyph: bool) -> Pixels:
    """The inference crop: a photo's shorter side to size · 256 / 224 and the middle; a glyph as a whole."""
    if glyph:
        return _apply_glyph(image, GlyphDraw(size, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)))
    height, width = image.shape[:2]
    side = min(height, width) * 224 / 256
    left, top = (width - side) / 2, (height - side) / 2
    # One resize of the middle in place of resize and crop: the same pixels but for rounding, in one pass.
    box = (left, top, left + side, top + side)
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC, box=box))


def _apply_photo(image: Pixels, draw: PhotoDraw) -> Pixels:
    resample = Image.Resampling.BICUBIC if draw.bicubic else Image.Resampling.BILINEAR
    box = (draw.left, draw.top, draw.left + draw.width, draw.top + draw.height)
    # Cropped first: resize(box=...) would let pixels beyond the crop bleed into its edge.
    view = Image.fromarray(image).crop(box).resize((draw.size, draw.size), resample)
    if draw.flip:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for name, factor in draw.jitter:
        view = _jitter(view, name, factor)
    if draw.gray and view.mode == "RGB":
        view = view.convert("L").convert("RGB")
    if draw.sigma > 0:
        view = view.filter(ImageFilter.GaussianBlur(draw.sigma))
    if draw.solarize:
        view = ImageOps.solarize(view, 128)
    return np.asarray(view)


def _jitter(view: Image.Image, name: str, factor: float) -> Image.Image:
    if name == "brightness":
        return ImageEnhance.Brightness(view).enhance(factor)
    if name == "contrast":
        return ImageEnhance.Contrast(view).enhance(factor)
    if view.mode != "RGB":  # a grey image has neither saturation nor hue
        return view
    if name == "saturation":
        return ImageEnhance.Color(view).enhance(factor)
    hue, saturation, value = view.convert("HSV").split()
    turned = (np.asarray(hue).astype(np.int16) + round(factor * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert("RGB")


def _apply_glyph(image: Pixels, draw: GlyphDraw) -> Pixels:
    height, width = image.shape[:2]
    a, b, c, d, e, f = draw.matrix
    shrink = sqrt(abs(a * e - b * d) * height * width) / draw.size
    if shrink > 2.0:  # bilinear sampling reads four pixels: a larger glyph is shrunk with antialias first
        smaller = (max(1, round(width / shrink)), max(1, round(height / shrink)))
        image = np.asarray(Image.fromarray(image).resize(smaller, Image.Resampling.BICUBIC))
        height, width = image.shape[:2]
    across, down, cubic = _grid(draw.size)
    x, y = a * across + b * down + c, d * across + e * down + f  # (size, size), half sides
    if draw.bends:
        bends = np.array(draw.bends, np.float32).reshape(2, GRID, GRID)
        x, y = (place + cubic @ bend @ cubic.T for place, bend in zip((x, y), bends, strict=True))
    view = _bilinear(image, (x + 1) * (width / 2) - 0.5, (y + 1) * (height / 2) - 0.5)
    if draw.gamma != 1.0:
        view = np.float32(255) * (view / np.float32(255)) ** np.float32(draw.gamma)
    return view.round().astype(np.uint8)


@lru_cache(maxsize=8)
def _grid(size: int) -> tuple[Floats, Floats, Floats]:
    """Centres of a view's pixels in half sides, (1, size) and (size, 1), and the cubic weights (size, GRID) there."""
    places = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    # Catmull-Rom from the grid's points, the outermost of which stand at the outermost pixels; beyond them repeated.
    steps = np.linspace(0, GRID - 1, size)
    cubic = np.zeros((size, GRID), np.float32)
    for row, step in enumerate(steps):
        first = min(int(step), GRID - 2)
        t = step - first
        near, far = -0.5 * t * (1 - t) ** 2, -0.5 * t**2 * (1 - t)
        weights = (near, 1 + t**2 * (1.5 * t - 2.5), t * (0.5 + t * (2 - 1.5 * t)), far)
        for offset, weight in enumerate(weights, first - 1):
            cubic[row, min(max(offset, 0), GRID - 1)] += weight
    return places[None, :], places[:, None], cubic


def _bilinear(image: Pixels, x: Floats, y: Floats) -> Floats:
    """Values at (x, y), pixels from the centre of the first; outside the image is the background."""
    height, width = image.shape[:2]
    padded = np.empty((height + 2, width + 2, *image.shape[2:]), np.float32)
    padded[:] = _background(image)
    padded[1:-1, 1:-1] = image
    x, y = np.clip(x + 1, 0, width + 1), np.clip(y + 1, 0, height + 1)
    left, top = np.minimum(x.astype(np.int32), width), np.minimum(y.astype(np.int32), height)
    right_share, low_share = x - left, y - top
    if image.ndim == 3:
        right_share, low_share = right_share[..., None], low_share[..., None]
    upper = padded[top, left] * (1 - right_share) + padded[top, left + 1] * right_share
    lower = padded[top + 1, left] * (1 - right_share) + padded[top + 1, left + 1] * right_share
    return (upper * (1 - low_share) + lower * low_share).astype(np.float32)


def _background(image: Pixels) -> Pixels:
    """The colour of the corners, by their lower median: what a glyph stands on."""
    corners = np.sort(image[:: max(1, len(image) - 1), :: max(1, image.shape[1] - 1)].reshape(-1, *image.shape[2:]), 0)
    return corners[(len(corners) - 1) // 2]
