"""Flip, jitter, grey, blur and solarise of one view, compiled: from the resized crop to the finished planes.

Values are floats from 0 to 255, clipped to that range after every step and rounded once, at the end. The jitter's
formulas are those of torchvision's functions on floats; `on_device.py` has the same ones for batches of tensors.
"""

from math import floor, sqrt

import numpy as np
from numpy.typing import NDArray

from gemel.data.compiled import compiled
from gemel.data.views import PhotoDraw

Floats = NDArray[np.float32]

BRIGHTNESS, CONTRAST, SATURATION, HUE, GRAY = range(5)
CODES = {"brightness": BRIGHTNESS, "contrast": CONTRAST, "saturation": SATURATION, "hue": HUE, "gray": GRAY}
LUMA = (0.2989, 0.587, 0.114)
"""shares of red, green and blue in a grey value, as torchvision has them"""

_F0, _F1, _F6, _F255, _HALF = (np.float32(value) for value in (0, 1, 6, 255, 0.5))
_RED, _GREEN, _BLUE = (np.float32(value) for value in LUMA)
BOXES = 3
"""passes of a box that make Pillow's blur"""
_NO_BLUR = np.ones(1, np.float32)
_CHUNK = 1024
"""pixels that go through all steps at once: three planes of them stay in the first cache"""


def steps_of(draw: PhotoDraw) -> tuple[NDArray[np.int64], Floats]:
    """Return the codes and factors of a draw's jitter and grey, in their order."""
    steps = (*draw.jitter, ("gray", 1.0)) if draw.gray else draw.jitter
    return (
        np.array([CODES[name] for name, _ in steps], np.int64),
        np.array([factor for _, factor in steps], np.float32),
    )


def blur_weights(sigma: float) -> Floats:
    """Return the box of which three passes are Pillow's Gaussian blur, as the half of it from its centre outwards.

    2 l + 1 whole weights and one smaller on each side, so that three of them together have the variance sigma²
    (Gwosdek et al. 2011, "Theoretical foundations of Gaussian convolution by extended box filtering"). The papers
    blurred with it; the true Gaussian differs where sigma < 1.

    Returns:
        float32 (l + 2,); without blur one weight, 1.
    """
    if sigma <= 0:
        return _NO_BLUR
    variance = sigma * sigma / 3
    whole = floor((sqrt(12 * variance + 1) - 1) / 2)
    share = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    weight = 1 / (2 * (whole + share) + 1)
    return np.array([weight] * (whole + 1) + [(1 - (2 * whole + 1) * weight) / 2], np.float32)


@compiled()
def finish(
    crop: NDArray[np.uint8],
    channels: int,
    flip: bool,
    codes: NDArray[np.int64],
    factors: Floats,
    weights: Floats,
    solarize: bool,
    out: NDArray[np.uint8],
) -> None:
    """Do everything that is done to a view after its resize.

    Args:
        crop: the resized crop, size · size · channels numbers, channels fastest.
        channels: 1 or 3.
        flip: left to right.
        codes: steps in their order, of `CODES`; saturation, hue and grey leave a single channel as it is.
        factors: theirs.
        weights: of the blur, as `blur_weights` gives them.
        solarize: v >= 128 becomes 255 - v.
        out: (3, size, size).
    """
    size = out.shape[1]
    count = size * size
    planes = np.empty((channels, count), np.float32)
    _load(crop, planes, flip, size)
    gray = _steps(planes, codes, factors) or channels == 1
    rows = np.empty((size if weights.size > 1 else 0, size), np.float32)
    flat = out.reshape(3, count)
    for channel in range(1 if gray else 3):
        if weights.size > 1:
            _blur(planes[channel].reshape(size, size), weights, rows)
        _store(planes[channel], solarize, flat[channel])
    for channel in range(1, 3 if gray else 1):
        _copy(flat[0], flat[channel])


@compiled()
def _load(crop: NDArray[np.uint8], planes: Floats, flip: bool, size: int) -> None:
    # Unsigned indices: for signed ones numba checks whether they are negative, and the loops are not vectorised.
    last = np.uint64(size - 1)
    channels = planes.shape[0]
    for y in range(size):
        start, end = y * size, (y + 1) * size
        row, red = crop[start * channels : end * channels], planes[0, start:end]
        if channels == 1:
            for x in range(size):
                red[last - np.uint64(x) if flip else np.uint64(x)] = row[x]
            continue
        green, blue = planes[1, start:end], planes[2, start:end]
        if flip:
            for x in range(size):
                i = last - np.uint64(x)
                red[i], green[i], blue[i] = row[3 * x], row[3 * x + 1], row[3 * x + 2]
        else:
            for x in range(size):
                red[x], green[x], blue[x] = row[3 * x], row[3 * x + 1], row[3 * x + 2]


@compiled()
def _copy(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    for i in range(source.size):
        target[i] = source[i]


@compiled()
def _steps(planes: Floats, codes: NDArray[np.int64], factors: Floats) -> bool:
    """Jitter and grey in place; return whether the first plane now holds for all three."""
    channels, count = planes.shape
    # The other two are not read where there is one channel.
    red, green, blue = planes[0], planes[channels // 2], planes[channels - 1]
    gray = channels == 1
    first = 0
    while first < codes.size:
        # Contrast needs the mean of everything before it, so it begins a new pass over the view.
        last = first + 1
        while last < codes.size and codes[last] != CONTRAST:
            last += 1
        total = 0.0
        if codes[first] == CONTRAST:
            for start in range(0, count, _CHUNK):
                end = min(start + _CHUNK, count)
                total += _sum(red[start:end]) if gray else _sum_luma(red[start:end], green[start:end], blue[start:end])
        mean = np.float32(total / count)
        turns_gray = gray
        for start in range(0, count, _CHUNK):
            end = min(start + _CHUNK, count)
            turns_gray = _pass(
                red[start:end], green[start:end], blue[start:end], codes[first:last], factors[first:last], mean, gray
            )
        gray = turns_gray
        first = last
    return gray


@compiled()
def _pass(
    red: Floats, green: Floats, blue: Floats, codes: NDArray[np.int64], factors: Floats, mean: np.float32, gray: bool
) -> bool:
    """Do steps, of which only the first can be contrast, on a chunk of pixels; return whether it is grey after them."""
    for step in range(codes.size):
        code, factor = codes[step], factors[step]
        if code in (BRIGHTNESS, CONTRAST):
            rest = (_F1 - factor) * mean if code == CONTRAST else _F0
            _scale(red, factor, rest)
            if not gray:
                _scale(green, factor, rest)
                _scale(blue, factor, rest)
        elif gray:
            continue
        elif code == SATURATION:
            _saturate(red, green, blue, factor)
        elif code == HUE:
            _turn(red, green, blue, factor * _F6)
        else:
            for i in range(red.size):
                red[i] = _luma(red[i], green[i], blue[i])
            gray = True
    return gray


@compiled()
def _scale(plane: Floats, factor: np.float32, rest: np.float32) -> None:
    for i in range(plane.size):
        plane[i] = _clip(plane[i] * factor + rest)


@compiled()
def _clip(value: np.float32) -> np.float32:
    return min(max(value, _F0), _F255)


@compiled()
def _luma(red: np.float32, green: np.float32, blue: np.float32) -> np.float32:
    return _RED * red + _GREEN * green + _BLUE * blue


@compiled(fastmath={"reassoc", "nsz"})  # a vectorised sum
def _sum(plane: Floats) -> np.float32:
    total = _F0
    for i in range(plane.size):
        total += plane[i]
    return total


@compiled(fastmath={"reassoc", "nsz"})
def _sum_luma(red: Floats, green: Floats, blue: Floats) -> np.float32:
    total = _F0
    for i in range(red.size):
        total += _luma(red[i], green[i], blue[i])
    return total


@compiled()
def _saturate(red: Floats, green: Floats, blue: Floats, factor: np.float32) -> None:
    for i in range(red.size):
        rest = (_F1 - factor) * _luma(red[i], green[i], blue[i])
        red[i] = _clip(red[i] * factor + rest)
        green[i] = _clip(green[i] * factor + rest)
        blue[i] = _clip(blue[i] * factor + rest)


@compiled()
def _turn(red: Floats, green: Floats, blue: Floats, turn: np.float32) -> None:
    """Turn the hue, in sixths of the circle; keep value and chroma.

    A channel is value - chroma · min(k, 4 - k), the minimum clipped to [0, 1], where k = 5 + hue for red, 3 + hue for
    green, 1 + hue for blue, modulo 6. Selects in place of branches, so that the loop is vectorised.
    """
    for i in range(red.size):
        r, g, b = red[i], green[i], blue[i]
        value = max(max(r, g), b)
        chroma = value - min(min(r, g), b)
        inverse = _F1 / (chroma if chroma > _F0 else _F1)
        blue_or_green = (b - r) * inverse + np.float32(2) if value == g else (r - g) * inverse + np.float32(4)
        hue = (g - b) * inverse if value == r else blue_or_green
        hue += turn
        hue = hue + _F6 if hue < _F0 else hue
        hue = hue - _F6 if hue >= _F6 else hue
        red[i] = _channel(hue + np.float32(5), value, chroma)
        green[i] = _channel(hue + np.float32(3), value, chroma)
        blue[i] = _channel(hue + _F1, value, chroma)


@compiled()
def _channel(k: np.float32, value: np.float32, chroma: np.float32) -> np.float32:
    k = k - _F6 if k >= _F6 else k
    return value - chroma * max(min(min(k, np.float32(4) - k), _F1), _F0)


@compiled()
def _blur(plane: Floats, weights: Floats, rows: Floats) -> None:
    """Blur by three boxes along the rows, then three along the columns; each pass repeats the edges of the last."""
    height, width = plane.shape
    half, last = weights.size - 1, height - 1
    edge = weights[half]
    padded = np.empty(width + 2 * half, np.float32)
    middle = padded[half:]
    for y in range(height):
        source, target = plane[y], rows[y]
        for _ in range(BOXES):
            for x in range(width):
                middle[x] = source[x]
            for x in range(half):
                padded[x], middle[width + x] = source[0], source[width - 1]
            right = middle[half:]
            for x in range(width):
                target[x] = middle[x] * weights[0] + (padded[x] + right[x]) * edge
            for k in range(1, half):
                left, right = padded[half - k :], middle[k:]
                for x in range(width):
                    target[x] += (left[x] + right[x]) * weights[k]
            source = target
    for step in range(BOXES):
        from_, into = (plane, rows) if step % 2 else (rows, plane)
        for y in range(height):
            source, target = from_[y], into[y]
            left, right = from_[max(y - half, 0)], from_[min(y + half, last)]
            for x in range(width):
                target[x] = source[x] * weights[0] + (left[x] + right[x]) * edge
            for k in range(1, half):
                left, right = from_[max(y - k, 0)], from_[min(y + k, last)]
                for x in range(width):
                    target[x] += (left[x] + right[x]) * weights[k]


@compiled()
def _store(plane: Floats, solarize: bool, out: NDArray[np.uint8]) -> None:
    for i in range(plane.size):
        value = np.uint8(np.int32(plane[i] + _HALF))
        out[i] = np.uint8(255) - value if solarize and value >= 128 else value
