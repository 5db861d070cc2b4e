"""Antialiased resize of small images, compiled: for these the overhead of calling torch's resize exceeds its work."""

from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from gemel.data.compiled import compiled

SMALL = 64
"""longest side of an image resized here, before and after, pixels"""


@compiled()
def resize(image: NDArray[np.uint8], channels: int, bicubic: bool, out: NDArray[np.uint8]) -> None:
    """Resize as Pillow does: along the rows, rounded, then along the columns.

    Args:
        image: (H, W · channels), channels last.
        channels: 1 or 3.
        bicubic: else bilinear.
        out: (size, size · channels).
    """
    height, size = image.shape[0], out.shape[0]
    firsts, weights = _weights(image.shape[1] // channels, size, bicubic)
    narrowed = np.empty((height, size * channels), np.float32)
    for y in range(height):
        row, target = image[y], narrowed[y]
        for x in range(size):
            first, last = firsts[x], firsts[x + size]
            for channel in range(channels):
                total = np.float32(0.5)
                for source in range(first, last):
                    total += weights[x, source - first] * np.float32(row[source * channels + channel])
                target[x * channels + channel] = np.floor(min(max(total, np.float32(0)), np.float32(255)))
    firsts, weights = _weights(height, size, bicubic)
    sums = np.empty(size * channels, np.float32)
    for y in range(size):
        target = out[y]
        for x in range(sums.size):
            sums[x] = np.float32(0.5)
        for source in range(firsts[y], firsts[y + size]):
            weight, row = weights[y, source - firsts[y]], narrowed[source]
            for x in range(sums.size):
                sums[x] += weight * row[x]
        for x in range(sums.size):
            target[x] = np.uint8(np.int32(min(max(sums[x], np.float32(0)), np.float32(255))))


@compiled()
def _weights(length: int, size: int, bicubic: bool) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return, for each output pixel, the first input pixel, and the one after the last, (2 · size,), and the weights.

    Row x of the weights (size, taps) begins with the weight of the first input pixel of output pixel x.
    """
    scale = length / size
    stretch = max(scale, 1.0)
    support = (2.0 if bicubic else 1.0) * stretch
    bounds = np.empty(2 * size, np.int64)
    weights = np.zeros((size, ceil(support) * 2 + 1), np.float32)
    for x in range(size):
        center = (x + 0.5) * scale
        first, last = max(floor(center - support + 0.5), 0), min(floor(center + support + 0.5), length)
        total = 0.0
        for source in range(first, last):
            weight = _filter(abs(source + 0.5 - center) / stretch, bicubic)
            weights[x, source - first] = weight
            total += weight
        for source in range(last - first):
            weights[x, source] = np.float32(weights[x, source] / total)
        bounds[x], bounds[x + size] = first, last
    return bounds, weights


@compiled()
def _filter(x: float, bicubic: bool) -> float:
    """Return Keys' cubic with a = -1/2, as in Pillow and torch, or the triangle, at distance x."""
    if not bicubic:
        return max(1.0 - x, 0.0)
    if x < 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    return ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0 if x < 2.0 else 0.0
