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

from gemel.settings.description import Ordered
from gemel.settings.views import GlyphViews, PhotoViews, VectorViews, Views, by_view

GRID = 4
"""points along a side of the grid that bends a glyph"""

TRIES = 10
"""crops that are tried before the centred one is taken, as in torchvision"""

CENTER = 224 / 256
"""side of the inference crop, as a share of the image's shorter side"""

OPERATIONS = {
    "identity": (0.0, 1.0),
    "autocontrast": (0.0, 1.0),
    "equalize": (0.0, 1.0),
    "rotate": (-30.0, 30.0),
    "solarize": (0.0, 256.0),
    "color": (0.05, 0.95),
    "contrast": (0.05, 0.95),
    "brightness": (0.05, 0.95),
    "sharpness": (0.05, 0.95),
    "shear_x": (-0.1, 0.1),
    "translate_x": (-0.1, 0.1),
    "translate_y": (-0.1, 0.1),
    "posterize": (4.0, 8.0),
    "shear_y": (-0.1, 0.1),
}
"""SCAN's list for strong views, after RandAugment (arXiv 1909.13719): range of each operation's strength"""

_ORDER_STREAM = 2**63
"""counter word of an epoch's order: no view number reaches it"""

_PARTNER_STREAM = 2**63 + 1
"""counter word of the choice of an image's partner"""

_NEIGHBOUR_STREAM = 2**63 + 2
"""counter word of the choice of neighbours, of all rows at once"""

_DENSE_STREAM = 2**63 + 3
"""counter word of the views that detectors and segmenters learn from"""

_PARTNER_VIEWS = 2**32
"""added to the view number for the views of a partner, which are drawn by the index of the image that it is with"""


class PhotoDraw(NamedTuple):
    """What is done to one photograph, in this order: crop, resize, noise, flip, jitter, grey, blur, solarise."""

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
    noise: float = 0.0
    """standard deviation of noise in the resized crop, as a share of 255"""
    noise_key: int = 0


class GlyphDraw(NamedTuple):
    """One sampling: from a position in the view to one in the image, both in half sides from the centre."""

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


class PlainDraw(NamedTuple):
    """The inference crop of a photograph."""

    size: int
    """side of the view, pixels"""
    whole: bool = False
    """all of the image, both sides resized; else the middle of it"""


class StrongDraw(NamedTuple):
    """What is done to one photograph, in this order: crop, flip, operations, cutout."""

    size: int
    """side of the view, pixels"""
    left: float
    top: float
    side: float
    """of the square crop, pixels of the image"""
    flip: bool
    operations: tuple[tuple[str, float], ...]
    """names and strengths"""
    cutout: tuple[int, int, int, int]
    """left, top, right and bottom of what is cut out, pixels of the view; empty where right is left"""
    fill: tuple[int, int, int]
    """colour that is put there: the mean, which is 0 after normalisation"""


WHOLE = GlyphDraw(0, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
"""the inference view of a glyph, but for its size: the whole image"""

Draw = PhotoDraw | GlyphDraw | PlainDraw | StrongDraw


def draw(
    views: Views,
    *,
    seed: int,
    epoch: int,
    index: int,
    view: int,
    height: int,
    width: int,
    size: int,
    partner: bool = False,
) -> Draw:
    """Draw the numbers of one view.

    Args:
        views: the recipe.
        seed: of the run.
        epoch: from 0.
        index: of the image in the dataset; for the views of a partner, of the image that it is with.
        view: number of the view, from 0.
        height: of the image, pixels.
        width: of the image, pixels.
        size: side of the view, pixels.
        partner: the view is one of a partner.
    """
    assert not isinstance(views, VectorViews), "vectors are taken as they are"
    kind = "random" if view >= views.global_count else by_view(views.kinds, view)
    if kind in ("plain", "whole"):
        return PlainDraw(size, kind == "whole") if isinstance(views, PhotoViews) else WHOLE._replace(size=size)
    generator = _generator(seed, epoch, view + _PARTNER_VIEWS if partner else view, index)
    if isinstance(views, GlyphViews):
        return _draw_glyph(views, generator, size)
    if kind == "strong":
        return _draw_strong(views, generator, height, width, size)
    return _draw_photo(views, generator.random(64).tolist(), view, height, width, size)


@lru_cache(maxsize=2)
def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the permutation of an epoch, drawn from (seed, epoch); cached, since every step asks for it."""
    permutation = _generator(seed, epoch, _ORDER_STREAM, 0).permutation(count)
    permutation.flags.writeable = False
    return permutation


def dense_generator(*, seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the generator of an image's view with boxes or labels; used at once, as the next call sets it anew."""
    return _generator(seed, epoch, _DENSE_STREAM, index)


def choose_partner(partners: NDArray[np.int64], *, seed: int, epoch: int, index: int) -> int:
    """Draw one of an image's partners, a row of (N, k), from (seed, epoch, index)."""
    return int(partners[index, _generator(seed, epoch, _PARTNER_STREAM, index).integers(partners.shape[1])])


def choose_neighbours(
    table: NDArray[np.int64], rows: NDArray[np.int64], *, seed: int, epoch: int, view: int
) -> NDArray[np.int64]:
    """Draw one of each row's neighbours, of a table (N, k), from (seed, epoch, view number, row)."""
    return table[rows, _columns(seed, epoch, view, *table.shape)[rows]]


@lru_cache(maxsize=4)
def _columns(seed: int, epoch: int, view: int, count: int, width: int) -> NDArray[np.int32]:
    return _generator(seed, epoch, _NEIGHBOUR_STREAM, view).integers(width, size=count, dtype=np.int32)


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


def _draw_photo(views: PhotoViews, u: list[float], view: int, height: int, width: int, size: int) -> PhotoDraw:
    if view >= views.global_count:
        scale, blur, solarize = views.local_scale, views.local_blur, views.local_solarize
    else:
        scale, blur, solarize = views.scale_of(view), by_view(views.blur, view), by_view(views.solarize, view)
    left, top, crop_width, crop_height = _crop(scale, views.ratio, u, height, width)
    u = u[4 * TRIES :]
    jitter = _draw_jitter(views, u, by_view(views.strength, view)) if u[0] < by_view(views.jitter, view) else ()
    gray = u[10] < by_view(views.gray, view)
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
        flip=u[9] < by_view(views.flip, view),
        jitter=jitter,
        gray=gray and not views.gray_first,
        sigma=_between(u[12], low, high) if u[11] < blur else 0.0,
        solarize=u[13] < solarize,
        noise=_between(u[15], *views.noise_sigma) if u[14] < by_view(views.noise, view) else 0.0,
        noise_key=int(u[16] * 2**53),
    )


def _draw_jitter(views: PhotoViews, u: list[float], strength: float) -> tuple[tuple[str, float], ...]:
    b, c, s, h = (strength * x for x in (views.brightness, views.contrast, views.saturation, views.hue))
    parts = (
        ("brightness", 1.0 + _between(u[1], -b if b < 1.0 else -1.0, b)),
        ("contrast", 1.0 + _between(u[2], -c if c < 1.0 else -1.0, c)),
        ("saturation", 1.0 + _between(u[3], -s if s < 1.0 else -1.0, s)),
        ("hue", _between(u[4], -h, h)),
    )
    return tuple(parts[i] for i in sorted(range(4), key=lambda i: u[5 + i]))


def _draw_strong(views: PhotoViews, generator: np.random.Generator, height: int, width: int, size: int) -> StrongDraw:
    u: list[float] = generator.random(6 + 2 * views.operations).tolist()
    names = list(OPERATIONS)
    chosen = [names[int(one * len(names))] for one in u[6::2]]
    side = CENTER * min(height, width)
    half = (1 + int(u[3] * round(views.cutout * size))) // 2  # a side of 1 to the longest, rounded down to an even one
    across, down = int(u[4] * size), int(u[5] * size)
    red, green, blue = (round(255 * share) for share in views.mean)
    return StrongDraw(
        size=size,
        left=u[0] * (width - side),
        top=u[1] * (height - side),
        side=side,
        flip=u[2] < 0.5,
        operations=tuple((name, _between(one, *OPERATIONS[name])) for name, one in zip(chosen, u[7::2], strict=True)),
        cutout=(max(across - half, 0), max(down - half, 0), min(across + half, size), min(down + half, size)),
        fill=(red, green, blue),
    )


def _crop(scale: Ordered, ratios: Ordered, u: list[float], height: int, width: int) -> tuple[int, int, int, int]:
    """Draw a random resized crop: area uniform, ratio log-uniform; after ten misses the largest centred one allowed."""
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
