"""Small pictures of many images, side by side on sheets: one file for 256 of them."""

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gemel.data.decode import Unreadable, glance, pixels_of
from gemel.data.sources import Source
from gemel.launcher import cores
from gemel.samples import evenly_spread

COLUMNS = 16
"""pictures side by side on a sheet, which has as many rows"""
PER_SHEET = COLUMNS * COLUMNS
SIDES = ((3500, 96), (7000, 64), (11_000, 48))
"""up to so many images have pictures of so many pixels a side; more have `SMALLEST`"""
SMALLEST = 40
SAMPLE = 64
"""images that tell the largest size that is needed"""
EXACT = 20
"""pictures of so few pixels are kept as they are (PNG): lossy codes work on blocks of 16"""
QUALITIES = (72, 50, 25, 5)
"""of WebP, from the first that fits the budget"""


class Sheets(NamedTuple):
    """All the pictures of a map."""

    side: int
    """of a picture, pixels; 0: there are none"""
    kind: str
    """png or webp"""
    sheets: tuple[bytes, ...]
    """files, `PER_SHEET` pictures each, row by row"""


def side_of(source: Source, count: int) -> int:
    """Return how many pixels a side the pictures of `count` images have; 0 for vectors, which have none.

    Small images are not enlarged: of digits of 8 x 8 pixels there is no more to see.
    """
    if source.width is not None:
        return 0
    side = next((side for most, side in SIDES if count <= most), SMALLEST)
    largest = 0
    for index in evenly_spread(len(source), SAMPLE).tolist():
        pixels = _pixels(source, index, side)
        if pixels is not None:
            largest = max(largest, *pixels.shape[:2])
    return min(side, largest)


def kind_of(side: int) -> str:
    """Return the format of a sheet."""
    return "png" if side <= EXACT else "webp"


def sheet(source: Source, indices: Sequence[int], side: int, quality: int = QUALITIES[0]) -> bytes:
    """Return up to `PER_SHEET` pictures as one image file; those that can't be read stay transparent."""
    return _encoded(_canvas(source, indices, side), kind_of(side), quality)


def all_sheets(
    source: Source, indices: NDArray[np.int64], side: int, budget: int, tell: Callable[[int, int], None] | None = None
) -> Sheets:
    """Return the pictures of images in this order, in at most about `budget` bytes; `tell` is told how far it is."""
    kind = kind_of(side)
    if not side:
        return Sheets(0, kind, ())
    parts = [indices[start : start + PER_SHEET].tolist() for start in range(0, len(indices), PER_SHEET)]
    with ThreadPoolExecutor(max(1, min(4, cores()))) as pool:
        canvases: list[Image.Image] = []
        for canvas in pool.map(lambda part: _canvas(source, part, side), parts):
            canvases.append(canvas)
            if tell is not None:
                tell(min(len(canvases) * PER_SHEET, len(indices)), len(indices))
        found: list[bytes] = []
        for quality in QUALITIES if kind == "webp" else QUALITIES[:1]:
            found = list(pool.map(lambda one, quality=quality: _encoded(one, kind, quality), canvases))
            if sum(map(len, found)) <= budget:
                break
    return Sheets(side, kind, tuple(found))


def _canvas(source: Source, indices: Sequence[int], side: int) -> Image.Image:
    rows = -(-len(indices) // COLUMNS)
    canvas = Image.new("RGBA", (COLUMNS * side, rows * side))
    for place, picture in enumerate(_small(source, indices, side)):
        if picture is not None:
            left, top = place % COLUMNS * side, place // COLUMNS * side
            canvas.paste(picture, (left + (side - picture.width) // 2, top + (side - picture.height) // 2))
    return canvas


def _small(source: Source, indices: Sequence[int], side: int) -> Iterator[Image.Image | None]:
    """Yield images, each within a square of `side` pixels."""
    for index in indices:
        pixels = _pixels(source, index, side)
        if pixels is None:
            yield None
            continue
        image = Image.fromarray(pixels).convert("RGB")
        if max(image.size) > side:
            image.thumbnail((side, side), Image.Resampling.BICUBIC)
        yield image


def _pixels(source: Source, index: int, side: int) -> NDArray[np.uint8] | None:
    """Return an image at a size of at least `side` pixels where it has as many; None if it can't be read."""
    try:
        data = source.read(index)
        is_file = isinstance(data, bytes)
        pixels = glance(data, source.decoding, least=side).pixels if is_file else pixels_of(data, source.decoding)
        return source.display.picture(pixels)
    except (OSError, Unreadable):
        return None


def _encoded(canvas: Image.Image, kind: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    canvas.save(buffer, kind.upper(), quality=quality, method=2)
    return buffer.getvalue()
