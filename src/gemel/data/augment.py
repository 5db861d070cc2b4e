"""Pixels and numbers to a view; and the one crop without chance, of evaluation."""

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from gemel.data.views import Draw, GlyphDraw, PhotoDraw

Pixels = NDArray[np.uint8]
"""(H, W) of a grey image or (H, W, 3)"""

LEVELS = np.arange(256) / 255
"""values that a byte can hold, in [0, 1]"""


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
    picture = Image.fromarray(image)
    a, b, c, d, e, f = draw.matrix
    # Half sides to pixels, and from the view's pixels: Pillow adds the half pixel of the centres itself.
    x, y, step = width / 2, height / 2, 2 / draw.size
    matrix = (
        a * x * step,
        b * x * step,
        x * (1 + c - a - b),
        d * y * step,
        e * y * step,
        y * (1 + f - d - e),
    )
    shrink = sqrt(abs(matrix[0] * matrix[4] - matrix[1] * matrix[3]))
    if shrink > 2.0:  # bilinear sampling reads four pixels: a larger glyph is shrunk with antialias first
        smaller = (max(1, round(width / shrink)), max(1, round(height / shrink)))
        return _apply_glyph(np.asarray(picture.resize(smaller, Image.Resampling.BICUBIC)), draw)
    sampled = picture.transform(
        (draw.size, draw.size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=_background(image)
    )
    view = np.asarray(sampled)
    return view if draw.gamma == 1.0 else ((LEVELS**draw.gamma) * 255).round().astype(np.uint8)[view]


def _background(image: Pixels) -> Any:
    """The colour of the corners, by their lower median: what a glyph stands on."""
    corners = np.sort(image[:: max(1, len(image) - 1), :: max(1, image.shape[1] - 1)].reshape(-1, *image.shape[2:]), 0)
    middle = corners[(len(corners) - 1) // 2]
    return int(middle) if image.ndim == 2 else tuple(int(one) for one in middle)
