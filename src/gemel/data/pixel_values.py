"""What the numbers of a dataset's image files mean: which are black and white, what shows through transparency."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from gemel.errors import UserError
from gemel.settings.colours import COLOURS, Rgb, rgb_of

Pixels = NDArray[np.uint8]
"""(H, W) of a grey image or (H, W, 3)"""

DEPTHS = {255.0: 8, 1023.0: 10, 4095.0: 12, 16383.0: 14, 65535.0: 16}
"""brightest value of each bit depth that cameras and microscopes deliver"""

CONTRAST = 1 / 4
"""share of a customary range that the sampled values must cover; else black and white are taken from the values"""

TAILS = (0.1, 99.9)
"""percentiles of the sampled values that become black and white then"""

NEARLY = 16
"""An image whose pixels, but for 1 % of them, lie within so many levels (of 255) is nearly one colour."""

NEARLY_ALL = (0.5, 99.5)
"""percentiles between which they lie"""


class Decoding(NamedTuple):
    """How the files of a dataset become 8-bit pixels: one for all images, never chosen image by image.

    Images of 8 bits without transparency do not depend on it.
    """

    white: float | None = None
    """value shown as 255 in images of more than 8 bits; None: 65535, and 1 for floats"""
    black: float | None = None
    """value shown as 0 in them; None: 0"""
    background: Rgb | None = None
    """shows through transparent pixels; None: white"""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Return what a run's settings or its backbone.json say; None where they say nothing.

        Raises:
            UserError: white is not greater than black.
        """
        white, black = (None if settings.get(key) is None else float(settings[key]) for key in ("white", "black"))
        colour = settings.get("background")
        return cls(white, black, None if colour is None else rgb_of(colour)).checked()

    def checked(self) -> Self:
        """Return the decoding itself.

        Raises:
            UserError: white is not greater than black.
        """
        if self.white is not None and self.white <= (self.black or 0):
            raise UserError(f"white {self.white:g} must be greater than black {self.black or 0:g}; change one of them")
        return self


OPEN = Decoding()
"""nothing said"""


def levels_of(values: NDArray[Any]) -> tuple[float, float]:
    """Return the values that are black and white in images of which `values` (n,) is a sample.

    Unsigned integers of 16 bits: 0 and the lowest customary bit depth that holds the sample (the sample's own maximum
    where it is below a quarter of 8 bits, as in masks). Others: 0 and 1, 255, 1023, ... if the sample lies within and
    covers a quarter of that; else percentiles of the sample, which may be negative.

    >>> levels_of(np.array([0, 900, 4000], np.uint16)), levels_of(np.array([0.0, 0.5, 0.9]))
    ((0.0, 4095.0), (0.0, 1.0))
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    darkest, brightest = float(finite.min()), float(finite.max())
    if finite.dtype == np.uint16:
        holds = next(white for white in DEPTHS if brightest <= white)
        return 0.0, holds if brightest >= CONTRAST * 255 else max(brightest, 1.0)
    black, white = (float(f"{one:.6g}") for one in np.percentile(finite.astype(np.float64), TAILS))
    customary = next((level for level in (1.0, *DEPTHS) if darkest >= 0 and brightest <= level), None)
    if customary is not None and (white - black >= CONTRAST * customary or black == white):
        return 0.0, customary
    return (0.0 if darkest >= 0 and black <= CONTRAST * white else black), white


def to_bytes(values: NDArray[Any], decoding: Decoding) -> Pixels:
    """Return values of more than 8 bits as 8-bit pixels of the same shape; what is not finite becomes black."""
    black, white = decoding.black or 0.0, decoding.white
    if white is None:
        white = 1.0 if values.dtype.kind == "f" else 65535.0
    if values.dtype == np.uint16 and (black, white) == (0.0, 65535.0):
        return (values >> 8).astype(np.uint8)
    with np.errstate(invalid="ignore"):  # a signalling NaN
        exact = values.astype(np.float32 if values.dtype == np.uint16 else np.float64)
    exact[~np.isfinite(exact)] = black
    return np.rint(((exact - black) / ((white - black) or 1.0) * 255).clip(0, 255)).astype(np.uint8)


def over(pixels: Pixels, opacity: NDArray[np.float32], background: Rgb | None, *, premultiplied: bool) -> Pixels:
    """Composite pixels (H, W) or (H, W, 3) with opacity (H, W) in [0, 1] over a colour; grey over grey stays grey."""
    red, green, blue = background or COLOURS["white"]
    if pixels.ndim == 2 and red == green == blue:
        share, ground = opacity, np.float32(red)
    else:
        share, ground = opacity[..., None], np.array((red, green, blue), np.float32)
        pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    front = pixels if premultiplied else pixels * share
    return np.rint((front + ground * (1 - share)).clip(0, 255)).astype(np.uint8)


def is_nearly_one_colour(pixels: Pixels) -> bool:
    """Tell whether there is hardly anything to see in an image."""
    flat = pixels.reshape(pixels.shape[0] * pixels.shape[1], -1)  # (n, channels)
    low, high = np.percentile(flat[:: len(flat) // 65_536 + 1], NEARLY_ALL, axis=0)
    return bool((high - low).max() <= NEARLY)
