"""A glyph's view in one sampling, compiled: at this size the calls of numpy cost more than their work."""

import numpy as np

from gemel.data.compiled import compiled
from gemel.data.photometric import Floats
from gemel.data.pixel_values import Pixels

_Matrix = tuple[float, float, float, float, float, float]


@compiled()
def sample(image: Pixels, ground: Floats, matrix: _Matrix, cubic: Floats, bends: Floats, out: Floats) -> None:
    """Sample an image through an affine map and a bent grid, bilinearly; outside of it is the background.

    Args:
        image: (H, W, C).
        ground: (C,), the background.
        matrix: a..f: the view's point (u, v) comes from (a u + b v + c, d u + e v + f), all in half sides.
        cubic: (size, G), weights of the grid's points for each row or column of the view.
        bends: (2, G, G), how far each of the grid's points is moved across and down; (2, 0, 0): nothing bends.
        out: (size, size, C), in the image's values, not rounded.
    """
    height, width, channels = image.shape
    size, points = len(out), bends.shape[1]
    a, b, c, d, e, f = matrix
    moved = np.zeros((2, max(points, 1)))
    for row in range(size):
        for axis in range(2):  # the grid's rows first, which all of the view's row share
            for j in range(points):
                total = 0.0
                for i in range(points):
                    total += cubic[row, i] * bends[axis, i, j]
                moved[axis, j] = total
        v = (2 * row + 1) / size - 1
        for column in range(size):
            u = (2 * column + 1) / size - 1
            x, y = a * u + b * v + c, d * u + e * v + f
            for j in range(points):
                x += cubic[column, j] * moved[0, j]
                y += cubic[column, j] * moved[1, j]
            x = min(max((x + 1) * (width / 2) + 0.5, 0.0), width + 1.0)  # pixels from one before the first
            y = min(max((y + 1) * (height / 2) + 0.5, 0.0), height + 1.0)
            left, top = min(int(x), width), min(int(y), height)
            right_share, low_share = x - left, y - top
            for channel in range(channels):
                total = 0.0
                for down in range(2):
                    for right in range(2):
                        at_y, at_x = top + down - 1, left + right - 1
                        inside = 0 <= at_y < height and 0 <= at_x < width
                        value = np.float64(image[at_y, at_x, channel]) if inside else np.float64(ground[channel])
                        share = right_share if right else 1 - right_share
                        total += value * share * (low_share if down else 1 - low_share)
                out[row, column, channel] = total


@compiled()
def change_greys(view: Floats, ground: Floats, gamma: float, ground_level: float, stroke_level: float) -> None:
    """Make strokes thinner or bolder, then change greys, by shares of the way from the background to black or white.

    Levels move the background towards black if the strokes are darker than it, else towards white. Both together are
    below 1, so that what was darker stays darker.

    Args:
        view: (size, size, C), changed in place.
        ground: (C,), the background.
        gamma: of the shares.
        ground_level: share of its way by which the background moves.
        stroke_level: the same of strokes.
    """
    size, _, channels = view.shape
    away, mean = 0.0, 0.0
    for channel in range(channels):
        mean += ground[channel] / channels
        for row in range(size):
            for column in range(size):
                away += view[row, column, channel] - ground[channel]
    darker = (away if away != 0 else 127 - mean) < 0
    left = 1 - ground_level - stroke_level
    for channel in range(channels):
        own = np.float64(ground[channel])
        start = own + ground_level * ((0.0 if darker else 255.0) - own)
        for row in range(size):
            for column in range(size):
                change = view[row, column, channel] - own
                room = 255 - own if change > 0 else -own
                share = change / room if room != 0 else 0.0
                view[row, column, channel] = start + left * room * share**gamma
