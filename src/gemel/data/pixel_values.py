"""What the numbers of a dataset's image files mean: which are black and white, what shows through transparency."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from gemel.errors import UserError
from gemel.settings.colours import COLOURS, Rgb, rgb_of
from gemel.settings.pages import Pages

Pixels = NDArray[Any]
"""(H, W) of a grey image or (H, W, C): uint8, or float32 from 0 (black) to 255 (white) with all bits of the file"""

CHANNELS = 32
"""of an image, at most"""

COLOURS_SEEN = 3
"""channels of the views of grey and of coloured images"""

DEPTHS = {255.0: 8, 1023.0: 10, 4095.0: 12, 16383.0: 14, 65535.0: 16}
"""brightest value of each bit depth that cameras and microscopes deliver"""

CONTRAST = 1 / 4
"""share of a customary range that the sampled values must cover; else black and white are taken from the values"""

TAILS = (0.1, 99.9)
"""percentiles of the sampled values that become black and white then"""

NEARLY = 16
"""An image whose pixels, but for 1 % of them, lie within so many levels (of 255) is nearly one colour."""

_BELOW, _ABOVE = 2, 4  # deviations around a channel's mean that pictures show

_FLAT = 1e-7  # deviation of a channel that says nothing

NEARLY_ALL = (0.5, 99.5)
"""percentiles between which they lie"""


class Decoding(NamedTuple):
    """How the files of a dataset become pixels: one for all images, never chosen image by image.

    Images of 8 bits without transparency depend on `channels` alone.
    """

    white: float | None = None
    """value that becomes 255 in images of more than 8 bits; None: 65535, and 1 for floats"""
    black: float | None = None
    """value that becomes 0 in them; None: 0"""
    background: Rgb | None = None
    """shows through transparent pixels; None: white"""
    floats: bool | None = None
    """whether pixels are float32 with all bits of the files, else 8 bits; None: not chosen, 8 bits"""
    channels: int | None = None
    """of the views: 3 of grey and coloured images, else as many as the files have; None: not chosen, 3"""
    pages: Pages = "first"
    """of files of several pages"""

    @property
    def shown(self) -> int:
        """Channels of a view."""
        return COLOURS_SEEN if self.channels in (None, 1) else self.channels

    @property
    def is_of_colours(self) -> bool:
        """Whether images are grey or of three colours."""
        return self.shown == COLOURS_SEEN

    @property
    def kind(self) -> type[np.uint8] | type[np.float32]:
        """Type of the pixels."""
        return np.float32 if self.floats else np.uint8

    @property
    def asked(self) -> dict[str, Any]:
        """What a result's question tells of the decoding: what is not as for images of 8 bits and three colours."""
        plain = {"floats": False, "channels": COLOURS_SEEN, "pages": "first"}
        return {key: value for key, value in self._asdict().items() if plain.get(key, ...) != value}

    @property
    def settings(self) -> dict[str, Any]:
        """The decoding as a run's settings spell it."""
        colour = next((name for name, rgb in COLOURS.items() if rgb == self.background), None)
        levels = {key: getattr(self, key) for key in ("white", "black")}
        found = {key: int(one) if one is not None and one == int(one) else one for key, one in levels.items()}
        pixels = None if self.floats is None else "floats" if self.floats else "bytes"
        return found | {"background": colour, "pixels": pixels, "channels": self.channels, "pages": self.pages}

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Return what a run's settings or its backbone.json say; None where they say nothing.

        Raises:
            UserError: white is not greater than black.
        """
        white, black = (None if settings.get(key) is None else float(settings[key]) for key in ("white", "black"))
        colour, pixels = settings.get("background"), settings.get("pixels")
        return cls(
            white,
            black,
            None if colour is None else rgb_of(colour),
            None if pixels is None else pixels == "floats",
            None if settings.get("channels") is None else int(settings["channels"]),
            settings.get("pages") or "first",
        ).checked()

    def checked(self) -> Self:
        """Return the decoding itself.

        Raises:
            UserError: white is not greater than black, or 8 bits are asked for of images of other than 1 or 3 channels.
        """
        if self.floats is False and not self.is_of_colours:
            raise UserError(f"--pixels bytes is for images of 1 or 3 channels, not {self.channels}; leave it out")
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


def to_levels(values: NDArray[Any], decoding: Decoding) -> NDArray[np.float32]:
    """Return values of any type as float32 from 0 (black) to 255 (white), of the same shape; NaN becomes black.

    Numbers of 8 bits are levels already.
    """
    if values.dtype.kind == "b" or values.dtype == np.uint8:
        return values.astype(np.float32) * np.float32(255 if values.dtype.kind == "b" else 1)
    black, white = decoding.black or 0.0, decoding.white
    if white is None:
        white = 1.0 if values.dtype.kind == "f" else 65535.0
    kind = np.float32 if values.dtype.itemsize <= 2 else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        exact = (values.astype(kind) - kind(black)) * kind(255 / ((white - black) or 1.0))
    return np.nan_to_num(exact, copy=False, nan=0.0).clip(0, 255).astype(np.float32)


def channels_last(values: NDArray[Any], *, stacked: bool = False) -> NDArray[Any]:
    """Return an array with the axis of channels at the end: the first or the last one, whichever is shorter.

    Args:
        values: (H, W), (H, W, C) or (C, H, W); others are returned as they are.
        stacked: the first axis is of several images.

    >>> channels_last(np.zeros((13, 64, 64))).shape, channels_last(np.zeros((5, 64, 64, 3)), stacked=True).shape
    ((64, 64, 13), (5, 64, 64, 3))
    """
    if values.ndim != 3 + stacked or values.shape[stacked] >= values.shape[-1] or values.shape[stacked] > CHANNELS:
        return values
    return np.moveaxis(values, int(stacked), -1)


def over(pixels: Pixels, opacity: NDArray[np.float32], background: Rgb | None, *, premultiplied: bool) -> Pixels:
    """Composite pixels (H, W) or (H, W, 3) with opacity (H, W) in [0, 1] over a colour; grey over grey stays grey."""
    red, green, blue = background or COLOURS["white"]
    if pixels.ndim == 2 and red == green == blue:
        share, ground = opacity, np.float32(red)
    else:
        share, ground = opacity[..., None], np.array((red, green, blue), np.float32)
        pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    front = pixels if premultiplied else pixels * share
    found = (front + ground * (1 - share)).clip(0, 255)
    return found.astype(np.float32) if pixels.dtype == np.float32 else np.rint(found).astype(np.uint8)


class Display(NamedTuple):
    """How pixels become pictures that people look at: one for all images of a dataset."""

    channels: tuple[int, int, int] | None = None
    """shown as red, green and blue; None: the first three, of two channels red and green"""
    mean: tuple[float, ...] = ()
    """of each channel, as shares of 255; empty: black and white are shown as they are"""
    std: tuple[float, ...] = ()

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Return what a run's settings say."""
        chosen, views = settings.get("composite"), settings.get("views")
        channels = None if chosen is None else (int(chosen[0]), int(chosen[1]), int(chosen[2]))
        if settings.get("pixels") != "floats" or not isinstance(views, Mapping) or not views.get("mean"):
            return cls(channels)
        return cls(channels, tuple(views["mean"]), tuple(views["std"]))

    def picture(self, pixels: Pixels) -> NDArray[np.uint8]:
        """Return 8 bits of grey, (H, W), or colour, (H, W, 3).

        Floats are shown from 2 deviations below the channel's mean to 4 above it, so that faint images are seen.

        Args:
            pixels: (H, W) or (H, W, C).
        """
        if pixels.dtype == np.uint8 and self.channels is None:
            return pixels
        chosen: Any = slice(0, COLOURS_SEEN) if self.channels is None else list(self.channels)
        shown = pixels if pixels.ndim == 2 else pixels[..., chosen]
        if self.mean and pixels.dtype != np.uint8:
            mean, std = (np.array(one, np.float32)[chosen] * 255 for one in (self.mean, self.std))
            mean, std = (mean[0], std[0]) if pixels.ndim == 2 else (mean, std)
            shown = (shown - (mean - _BELOW * std)) * (255 / ((_BELOW + _ABOVE) * std))
        shown = np.rint(shown.clip(0, 255)).astype(np.uint8)
        if shown.ndim == 3 and shown.shape[2] < COLOURS_SEEN:
            return np.dstack([shown, *[np.zeros(shown.shape[:2], np.uint8)] * (COLOURS_SEEN - shown.shape[2])])
        return np.ascontiguousarray(shown)


class Moments:
    """Mean and deviation of each channel over images.

    Args:
        channels: of their views; a grey image counts for all.
    """

    def __init__(self, channels: int) -> None:
        self._count, self._sums, self._squares = 0, np.zeros(channels), np.zeros(channels)

    def add(self, pixels: Pixels) -> None:
        """Take an image, (H, W) or (H, W, C)."""
        flat = pixels.reshape(pixels.shape[0] * pixels.shape[1], -1).astype(np.float64) / 255  # (n, C or 1)
        self._count += len(flat)
        self._sums += flat.sum(0)
        self._squares += np.square(flat).sum(0)

    def found(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return means and deviations as shares of 255, in six digits; a channel of one value has the deviation 1."""
        mean = self._sums / max(1, self._count)
        deviation = np.sqrt((self._squares / max(1, self._count) - mean**2).clip(0))
        deviation[deviation < _FLAT] = 1.0
        means, deviations = ([float(f"{one:.6g}") for one in each] for each in (mean, deviation))
        return tuple(means), tuple(deviations)


def is_nearly_one_colour(pixels: Pixels) -> bool:
    """Tell whether there is hardly anything to see in an image."""
    flat = pixels.reshape(pixels.shape[0] * pixels.shape[1], -1)  # (n, channels)
    low, high = np.percentile(flat[:: len(flat) // 65_536 + 1], NEARLY_ALL, axis=0)
    return bool((high - low).max() <= NEARLY)
