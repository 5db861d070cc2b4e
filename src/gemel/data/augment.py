"""Apply the draw of a view to an image's pixels; and the inference crop, which draws nothing."""

from collections.abc import Callable
from functools import lru_cache
from math import ceil, sqrt

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch.nn import functional

from gemel.data import on_device
from gemel.data.compiled import is_compiled
from gemel.data.glyph_sampling import change_greys, sample
from gemel.data.photometric import Floats, blur_weights, finish, steps_of
from gemel.data.pixel_values import Pixels
from gemel.data.resize import SMALL, resize
from gemel.data.views import CENTER, GRID, Draw, GlyphDraw, PhotoDraw, PlainDraw, StrongDraw


def put(image: Pixels, draw: Draw, out: Pixels) -> None:
    """Write the view that `draw` describes into `out` (C, size, size); a grey image gives three equal planes.

    Args:
        image: uint8, grey or of three colours, or float32 of any channels.
        draw: what is done to it; strong views are of uint8 alone.
        out: of the same type.
    """
    if isinstance(draw, PhotoDraw):
        _put_photo(image, draw, out)
    elif isinstance(draw, GlyphDraw):
        put_planes(_apply_glyph(image, draw), out)
    elif isinstance(draw, StrongDraw):
        put_planes(_apply_strong(image, draw), out)
    else:
        put_planes(plain(image, draw), out)


def _put_photo(image: Pixels, draw: PhotoDraw, out: Pixels) -> None:
    view = crop(image, draw)
    if is_compiled() and view.dtype == np.uint8:
        channels = 1 if view.ndim == 2 else 3
        codes, factors = steps_of(draw)
        finish(view.reshape(-1), channels, draw.flip, codes, factors, blur_weights(draw.sigma), draw.solarize, out)
    else:
        tensor = torch.from_numpy(view).view(1, draw.size, draw.size, -1).permute(0, 3, 1, 2)
        out[:] = on_device.finish(tensor, on_device.stack([draw]))[0].numpy()


def crop(image: Pixels, draw: PhotoDraw) -> Pixels:
    """Cut out the crop of a draw and resize it with antialias: (size, size) of a grey image or (size, size, C)."""
    # Cut out first: pixels beyond the crop must not bleed into its edge.
    part = image[draw.top : draw.top + draw.height, draw.left : draw.left + draw.width].copy()
    if is_compiled() and image.dtype == np.uint8 and max(draw.height, draw.width, draw.size) <= SMALL:
        channels = 1 if part.ndim == 2 else 3
        small = np.empty((draw.size, draw.size * channels), np.uint8)
        resize(part.reshape(draw.height, -1), channels, draw.bicubic, small)
        return _with_noise(small.reshape(draw.size, draw.size, *part.shape[2:]), draw)
    return _with_noise(_squared(part, draw.size, "bicubic" if draw.bicubic else "bilinear"), draw)


def _squared(image: Pixels, size: int, mode: str = "bicubic") -> Pixels:
    """Return a whole image with both sides resized, (size, size) or (size, size, C).

    By torch: it resizes bytes in lanes where they lie channels last, six times as fast as Pillow and within 2 of it.
    """
    own = np.require(image, requirements=["C", "W"])
    tensor = torch.from_numpy(own).view(1, *image.shape[:2], -1).permute(0, 3, 1, 2)
    found = functional.interpolate(tensor, (size, size), mode=mode, antialias=True)
    found = found.permute(0, 2, 3, 1).contiguous().numpy().reshape(size, size, *image.shape[2:])
    return found if found.dtype == np.uint8 else found.clip(0, 255)


def _with_noise(view: Pixels, draw: PhotoDraw) -> Pixels:
    """Add Gaussian noise, drawn for each pixel and channel, where the draw has some."""
    if not draw.noise:
        return view
    generator = np.random.Generator(np.random.Philox(key=draw.noise_key))
    noisy = view + np.float32(255 * draw.noise) * generator.standard_normal(view.shape, np.float32)
    noisy = noisy.clip(0, 255)
    return noisy.round().astype(np.uint8) if view.dtype == np.uint8 else noisy


def plain(image: Pixels, draw: PlainDraw) -> Pixels:
    """Return the inference crop of a photo: its shorter side to size · 256 / 224, and the middle; or all of it."""
    height, width = image.shape[:2]
    if draw.whole:
        return _squared(image, draw.size)
    side = min(height, width) * CENTER
    return square(image, (width - side) / 2, (height - side) / 2, side, draw.size)


def square(image: Pixels, left: float, top: float, side: float, size: int) -> Pixels:
    """Return a square part of an image, resized with antialias: (size, size) or (size, size, C)."""
    # One resize of a box in place of resize and crop: the same pixels but for rounding, in one pass.
    return resized(image, (size, size), (left, top, left + side, top + side))


def resized(image: Pixels, size: tuple[int, int], box: tuple[float, float, float, float] | None = None) -> Pixels:
    """Return a part of an image by Pillow's bicubic filter; of floats channel by channel, without rounding.

    Args:
        image: (H, W) or (H, W, C).
        size: width and height in pixels.
        box: left, top, right and bottom of the part; None: all of it.
    """
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, box=box))
    if image.ndim == 2:  # bicubic weights are negative beside an edge: bytes are clipped by Pillow
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, box=box)).clip(0, 255)
    planes = [np.ascontiguousarray(image[..., one]) for one in range(image.shape[2])]
    return np.stack([resized(plane, size, box) for plane in planes], 2)


def put_planes(view: Pixels, out: Pixels) -> None:
    """Copy a finished view, (size, size) or (size, size, C), into `out` (C, size, size)."""
    out[:] = view if view.ndim == 2 else view.transpose(2, 0, 1)


def _move(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


_OPERATIONS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "identity": lambda image, _: image,
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "rotate": lambda image, strength: image.rotate(strength),
    "solarize": lambda image, strength: ImageOps.solarize(image, ceil(strength)),
    "color": lambda image, strength: ImageEnhance.Color(image).enhance(strength),
    "contrast": lambda image, strength: ImageEnhance.Contrast(image).enhance(strength),
    "brightness": lambda image, strength: ImageEnhance.Brightness(image).enhance(strength),
    "sharpness": lambda image, strength: ImageEnhance.Sharpness(image).enhance(strength),
    "shear_x": lambda image, strength: _move(image, 1, strength, 0, 0, 1, 0),
    "translate_x": lambda image, strength: _move(image, 1, 0, strength * image.width, 0, 1, 0),
    "translate_y": lambda image, strength: _move(image, 1, 0, 0, 0, 1, strength * image.height),
    "posterize": lambda image, strength: ImageOps.posterize(image, int(strength)),
    "shear_y": lambda image, strength: _move(image, 1, 0, 0, strength, 1, 0),
}


def _apply_strong(image: Pixels, draw: StrongDraw) -> Pixels:
    view = Image.fromarray(square(image, draw.left, draw.top, draw.side, draw.size)).convert("RGB")
    view = ImageOps.mirror(view) if draw.flip else view
    for name, strength in draw.operations:
        view = _OPERATIONS[name](view, strength)
    view.paste(draw.fill, draw.cutout)
    return np.asarray(view)


def _apply_glyph(image: Pixels, draw: GlyphDraw) -> Pixels:
    height, width = image.shape[:2]
    a, b, _, d, e, _ = draw.matrix
    shrink = sqrt(abs(a * e - b * d) * height * width) / draw.size
    if shrink > 2.0:  # bilinear sampling reads four pixels: a larger glyph is shrunk with antialias first
        smaller = (max(1, round(width / shrink)), max(1, round(height / shrink)))
        image = resized(image, smaller)
        height, width = image.shape[:2]
    ground = background(image).astype(np.float32).reshape(-1)
    bends = np.array(draw.bends, np.float32).reshape(2, GRID, GRID) if draw.bends else _STRAIGHT
    view = np.empty((draw.size, draw.size, len(ground)), np.float32)
    sample(image.reshape(height, width, -1), ground, draw.matrix, _cubic(draw.size), bends, view)
    if draw.gamma != 1.0 or any(draw.levels):
        change_greys(view, ground, draw.gamma, *draw.levels)
    view = view.reshape(draw.size, draw.size, *image.shape[2:])
    return view.round().astype(np.uint8) if image.dtype == np.uint8 else view


_STRAIGHT = np.zeros((2, 0, 0), np.float32)
"""no bends"""


@lru_cache(maxsize=8)
def _cubic(size: int) -> Floats:
    """Return the cubic weights of the grid's points for each pixel of a side, (size, GRID)."""
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
    return cubic


def background(image: Pixels) -> Pixels:
    """Return the colour of the corners, by their lower median: what a glyph stands on."""
    corners = np.sort(image[:: max(1, len(image) - 1), :: max(1, image.shape[1] - 1)].reshape(-1, *image.shape[2:]), 0)
    return corners[(len(corners) - 1) // 2]
