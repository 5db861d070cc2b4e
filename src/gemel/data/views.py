"""From a recipe of views to the random numbers of one view; no pixels here.

A view is a pure function of (seed, epoch, index, view number): its numbers come from a counter-based generator (Philox
4x64) keyed by those four, so that workers, processes, prefetch and resume can't change what is trained on.
"""

import threading
from functools import lru_cache
from math import cos, exp, log, radians, sin, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemel.settings.recipes import GlyphViews, Ordered, PhotoViews, Views

GRID = 4
"""points along a side of the grid that bends a glyph"""

TRIES = 10
"""crops that are tried before the centred one is taken, as in torchvision"""

_ORDER_STREAM = 2**63
"""counter word of an epoch's order: no view number reaches it"""


class PhotoDraw(NamedTuple):
    """What is done to one photograph, in this order: crop, resize, flip, jitter, grey, blur, solarise."""

    size: int
    """side of the view, pixels"""
    left: int
    top: int
    width: int
    height: int
    bicubic: bool
    flip: bool
    jitter: tuple[tuple[str, float], ...]
    """(brightness | contrast | saturation | hue | gray, factor) in the order of their application"""
    gray: bool
    sigma: float
    """of the blur, pixels; 0: none"""
    solarize: bool


class GlyphDraw(NamedTuple):
    """One sampling: from a place in the view to one in the image, both in half sides from the centre."""

    size: int
    """side of the view, pixels"""
    matrix: tuple[float, float, float, float, float, float]
    """a, b, c, d, e, f: x_image = a x + b y + c, y_image = d x + e y + f; all in [-1, 1] inside"""
    bends: tuple[float, ...] = ()
    """moves of a GRID x GRID grid over the view, in half sides of the image: first all in x, then all in y"""
    gamma: float = 1.0
    """shares of the way from the background to black or white become their power"""
    levels: tuple[float, float] = (0.0, 0.0)
    """shares of the way from background to black or white that the background moves on, and the strokes come back"""


Draw = PhotoDraw | GlyphDraw


def draw(views: Views, *, seed: int, epoch: int, index: int, view: int, height: int, width: int, size: int) -> Draw:
    """Draw the numbers of one view.

    Args:
        views: the recipe.
        seed: of the run.
        epoch: from 0.
        index: the image's place in the data set.
        view: number of the view, from 0.
        height: of the image, pixels.
        width: of the image, pixels.
        size: side of the view, pixels.
    """
    generator = _generator(seed, epoch, view, index)
    if isinstance(views, GlyphViews):
        return _draw_glyph(views, generator, size)
    return _draw_photo(views, generator.random(64), view, height, width, size)


@lru_cache(maxsize=2)
def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The permutation of an epoch, drawn from (seed, epoch); kept, since every step of the epoch asks for it."""
    permutation = _generator(seed, epoch, _ORDER_STREAM, 0).permutation(count)
    permutation.flags.writeable = False
    return permutation


class _Generators(threading.local):
    """One generator for each thread, set to a stream anew: a third of the time of making one."""

    def __init__(self) -> None:
        self.philox: Any = np.random.Philox(key=0)  # Any: its stub wants the state's inner type by name
        self.state: Any = self.philox.state
        self.generator = np.random.Generator(self.philox)


_generators = _Generators()


def _generator(seed: int, epoch: int, view: int, index: int) -> np.random.Generator:
    # The lowest word of the counter counts up as numbers are drawn, so the three above it tell the streams apart.
    counter, key = np.array([0, 0, view, index], np.uint64), np.array([seed, epoch], np.uint64)
    _generators.philox.state = {**_generators.state, "state": {"counter": counter, "key": key}}
    return _generators.generator


def _draw_photo(
    views: PhotoViews, numbers: NDArray[np.float64], view: int, height: int, width: int, size: int
) -> PhotoDraw:
    local = view >= 2
    scale = views.local_scale if local else views.scale
    blur, solarize = (views.local_blur, views.local_solarize) if local else (views.blur[view], views.solarize[view])
    left, top, crop_width, crop_height = _crop(scale, views.ratio, numbers[: 4 * TRIES].tolist(), height, width)
    u: list[float] = numbers[4 * TRIES :].tolist()
    jitter: tuple[tuple[str, float], ...] = ()
    if u[0] < views.jitter:
        strengths = {"brightness": views.brightness, "contrast": views.contrast, "saturation": views.saturation}
        parts = [(name, 1.0 + _between(u[1 + i], -x, x)) for i, (name, x) in enumerate(strengths.items())]
        parts.append(("hue", _between(u[4], -views.hue, views.hue)))
        jitter = tuple(parts[i] for i in sorted(range(4), key=lambda i: u[5 + i]))
    gray = u[10] < views.gray
    if gray and views.gray_first:
        jitter = (("gray", 1.0), *jitter)
    low, high = views.blur_sigma
    return PhotoDraw(
        size=size,
        left=left,
        top=top,
        width=crop_width,
        height=crop_height,
        bicubic=views.interpolation == "bicubic",
        flip=u[9] < views.flip,
        jitter=jitter,
        gray=gray and not views.gray_first,
        sigma=_between(u[12], low, high) if u[11] < blur else 0.0,
        solarize=u[13] < solarize,
    )


def _crop(scale: Ordered, ratios: Ordered, u: list[float], height: int, width: int) -> tuple[int, int, int, int]:
    """Random resized crop: area uniform, ratio log-uniform; after ten misses the largest centred crop allowed."""
    area = height * width
    low, high = (log(ratio) for ratio in ratios)
    for i in range(TRIES):
        target = area * _between(u[4 * i], *scale)
        ratio = exp(_between(u[4 * i + 1], low, high))
        w, h = round(sqrt(target * ratio)), round(sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(u[4 * i + 2] * (width - w + 1)), int(u[4 * i + 3] * (height - h + 1)), w, h
    w, h = width, height
    if width / height < ratios[0]:
        h = max(1, round(width / ratios[0]))
    elif width / height > ratios[1]:
        w = max(1, round(height * ratios[1]))
    return (width - w) // 2, (height - h) // 2, w, h


def _draw_glyph(views: GlyphViews, generator: np.random.Generator, size: int) -> GlyphDraw:
    u: list[float] = generator.random(6).tolist()
    angle = radians(_between(u[0], -views.rotate, views.rotate))
    zoom = 1.0 / _between(u[1], *views.scale)
    shear = _between(u[2], -views.shear, views.shear)
    # shares of the side, in half sides
    x, y = (2.0 * _between(one, -views.shift, views.shift) for one in u[3:5])
    a, b = zoom * cos(angle), zoom * (shear * cos(angle) - sin(angle))
    d, e = zoom * sin(angle), zoom * (shear * sin(angle) + cos(angle))
    moves = 2.0 * views.elastic * generator.standard_normal(2 * GRID**2)  # shares of the side, in half sides
    bends: tuple[float, ...] = tuple(moves.tolist()) if views.elastic else ()
    gamma = exp(_between(u[5], -views.gamma, views.gamma))
    ground, strokes = (views.levels * generator.random(2)).tolist() if views.levels else (0.0, 0.0)
    return GlyphDraw(size, (a, b, x, d, e, y), bends, gamma, (ground, strokes))


def _between(u: float, low: float, high: float) -> float:
    return low + u * (high - low)
