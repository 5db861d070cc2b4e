"""Resize of small images with antialias, compiled: for them the calls that lead to torch's resize cost more than it."""

from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from gemel.data.compiled import compiled

SMALL = 64
"""pixels: to be resized here, both sides are at most this long, before and after"""


@compiled()
def resize(image: NDArray[np.uint8], channels: int, bicubic: bool, out: NDArray[np.uint8]) -> None:
    """Pillow's resize: along the rows, rounded, then along the columns.

    Args:
        image: (H, W · channels), channels fastest.
        channels: 1 or 3.
        bicubic: else bilinear.
        out: (size, size · channels).
    """
    height, size = image.shape[0], out.shape[0]
    firsts, weights = _weights(image.shape[1] // channels, size, bicubic)
    between = np.empty((height, size * channels), np.float32)
    for y in range(height):
        row, target = image[y], between[y]
        for x in range(size):
            first, last = firsts[x], firsts[x + size]
            for channel in range(channels):
                total = np.float32(0.5)
                for place in range(first, last):
                    total += weights[x, place - first] * np.float32(row[place * channels + channel])
                target[x * channels + channel] = np.floor(min(max(total, np.float32(0)), np.float32(255)))
    firsts, weights = _weights(height, size, bicubic)
    line = np.empty(size * channels, np.float32)
    for y in range(size):
        target = out[y]
        for x in range(line.size):
            line[x] = np.float32(0.5)
        for place in range(firsts[y], firsts[y + size]):
            weight, row = weights[y, place - firsts[y]], between[place]
            for x in range(line.size):
                line[x] += weight * row[x]
        for x in range(line.size):
            target[x] = np.uint8(np.int32(min(max(line[x], np.float32(0)), np.float32(255))))


@compiled()
def _weights(length: int, size: int, bicubic: bool) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Of each new pixel the first old one, and one after the last, (2 · size,); and the weights from the first on."""
    scale = length / size
    stretch = max(scale, 1.0)
    support = (2.0 if bicubic else 1.0) * stretch
    bounds = np.empty(2 * size, np.int64)
    weights = np.zeros((size, ceil(support) * 2 + 1), np.float32)
    for x in range(size):
        center = (x + 0.5) * scale
        first, last = max(floor(center - support + 0.5), 0), min(floor(center + support + 0.5), length)
        total = 0.0
        for place in range(first, last):
            weight = _filter(abs(place + 0.5 - center) / stretch, bicubic)
            weights[x, place - first] = weight
            total += weight
        for place in range(last - first):
            weights[x, place] = np.float32(weights[x, place] / total)
        bounds[x], bounds[x + size] = first, last
    return bounds, weights


@compiled()
def _filter(x: float, bicubic: bool) -> float:
    """Keys' cubic with a = -1/2, as Pillow and torch have it; or the triangle."""
    if not bicubic:
        return max(1.0 - x, 0.0)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 if x < 2.0 else 0.0
