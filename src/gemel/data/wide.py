"""Images of more than 8 bits, as their files hold them; Pillow alone reduces 16-bit colour to 8 bits."""

import re
import sys
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from gemel.data.pixel_values import CHANNELS, Pixels

_WIDE_COLOUR = re.compile(r"(RGB[AaX]?|LA);16[LBN]")
"""Pillow's names of how files pack colours of 16 bits, of which it decodes one byte each"""

_BITS, _PHOTOMETRIC, _DESCRIPTION, _SAMPLES, _EXTRA, _SAMPLE_FORMAT = 258, 262, 270, 277, 338, 339
_SHAPE = re.compile(r'\{"shape": \[(\d{1,6}), (\d{1,6}), (\d{1,6})\]')
_CHANNEL_PAGES = re.compile(r"""(?:^channels=|SizeC=")(\d{1,6})""", re.MULTILINE)
_WHITE_IS_ZERO, _SIGNED = 0, 2


class Wide(NamedTuple):
    """An image of more than 8 bits, as its file holds it."""

    values: NDArray[Any]
    """(H, W) or (H, W, C), of any type of numbers"""
    opacity: NDArray[np.float32] | None = None
    """(H, W) in [0, 1]; None: opaque"""
    premultiplied: bool = False
    declares_white: bool = False
    """the values were scaled to 16 bits by the white that the file declares"""
    white_is_zero: bool = False
    window: tuple[float, float] | None = None
    """values that the file says are black and white; None: it does not say"""

    @property
    def visible(self) -> NDArray[Any]:
        """The values of pixels that are not fully transparent, (n,)."""
        return (self.values if self.opacity is None else self.values[self.opacity > 0]).reshape(-1)


def wide_values(image: ImageFile.ImageFile, data: bytes, *, narrow: bool) -> Wide | None:
    """Return the values of an image of more than 8 bits; None: Pillow's 8 bits are all that is needed.

    Args:
        image: opened, not loaded; it is loaded where values are returned.
        data: the file.
        narrow: whether the upper byte of 16-bit colour is enough.
    """
    rawmode, tags = rawmode_of(image), image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if rawmode == "R" and tags.get(_BITS, (8,))[0] == 16:  # separate planes, of which Pillow would mix the bytes up
        return _wide_colour(image, data, f";16{'L' if data[:2] == b'II' else 'B'}")
    if _WIDE_COLOUR.fullmatch(rawmode):
        narrow = narrow and rawmode[:2] != "LA" and "transparency" not in image.info
        return None if narrow else _wide_colour(image, data, rawmode)
    if image.format == "PPM" and image.mode == "RGB" and image.tile[0].args == ("RGB", 65535):
        width, height = image.size
        values = np.frombuffer(data, ">u2", width * height * 3, image.tile[0].offset)
        return Wide(values.astype(np.uint16).reshape(height, width, 3))
    is_signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED
    if not ((is_signed and image.mode == "L") or image.mode in ("I", "F") or image.mode.startswith("I;16")):
        return None
    declares_white = image.format == "PPM" and image.mode == "I" and image.tile[0].codec_name != "raw"
    image.load()
    values: NDArray[Any] = np.array(image)  # (H, W)
    if image.mode == "L":
        values = values.view(np.int8)
    elif image.format == "PPM" or image.mode.startswith("I;16"):
        values = values if image.mode == "F" else values.astype(np.uint16)
    elif image.mode == "I" and not is_signed:
        values = values.view(np.uint32)
    opacity = _opacity_of(values, image.info.get("transparency"))
    white_is_zero = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    return Wide(values, opacity, declares_white=declares_white, white_is_zero=white_is_zero)


def _wide_colour(image: ImageFile.ImageFile, data: bytes, rawmode: str) -> Wide:
    """Return 16-bit colour, or grey with alpha, of which Pillow decodes one byte of each value at a time."""
    if rawmode.startswith("LA"):  # four bytes a pixel: upper and lower of grey, upper and lower of alpha
        packed = _loaded(image, "RGBA").astype(np.uint16)
        values = packed[..., ::2] << 8 | packed[..., 1::2]
        return Wide(np.ascontiguousarray(values[..., 0]), _share(values[..., 1]))
    premultiplied = rawmode.startswith("RGBa")
    straight = rawmode.replace("RGBa", "RGBA")
    upper = _loaded(image, straight).astype(np.uint16)
    order = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}[straight[-1]]
    with Image.open(BytesIO(data), formats=[str(image.format)]) as again:
        lower = _loaded(again, straight[:-1] + order)  # of compressed separate planes the upper byte once more
    values = upper << 8 | lower  # (H, W, 3 or 4)
    if values.shape[2] == 4:
        return Wide(values[..., :3], _share(values[..., 3]), premultiplied)
    return Wide(values, _opacity_of(values, image.info.get("transparency")))


def _share(opacity: NDArray[Any]) -> NDArray[np.float32]:
    return opacity.astype(np.float32) / np.float32(65535)


def _opacity_of(values: NDArray[Any], transparency: object) -> NDArray[np.float32] | None:
    """Return 0 where pixels have the one value that the file declares transparent; None: it declares none."""
    if not isinstance(transparency, int | tuple):
        return None
    differs = values != np.asarray(transparency)
    return (differs.any(-1) if values.ndim == 3 else differs).astype(np.float32)


def has_channels(image: ImageFile.ImageFile) -> bool:
    """Return whether a TIFF holds channels of which Pillow would give the first alone.

    Grey with further samples that are no alpha channel; or pages that are channels, as microscopes write them by ImageJ
    and OME, or rows of pixels, as tifffile writes an array (H, W, C).
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    tags = image.tag_v2
    is_grey, samples = tags.get(_PHOTOMETRIC) in (0, 1), int(tags.get(_SAMPLES, 1))
    if is_grey and samples > 1:
        return samples > 2 or not set(tags.get(_EXTRA, ())) & {1, 2}
    described = tags.get(_DESCRIPTION)
    if not isinstance(described, str):
        return False
    found = _CHANNEL_PAGES.search(described)
    has_channels = found is not None and int(found[1]) > 1
    return (has_channels or is_array_of_rows(described)) and int(getattr(image, "n_frames", 1)) > 1


def is_array_of_rows(described: str) -> bool:
    """Return whether a TIFF's description says that it holds an array (H, W, C), in pages of (W, C).

    >>> is_array_of_rows('{"shape": [512, 512, 5]}'), is_array_of_rows('{"shape": [5, 512, 512]}')
    (True, False)
    """
    found = _SHAPE.match(described)
    if found is None:
        return False
    height, width, channels = map(int, found.groups())
    return channels <= CHANNELS and channels < min(height, width)


def rawmode_of(image: ImageFile.ImageFile) -> str:
    """Return how the file packs its pixels, by Pillow's name."""
    args: Any = image.tile[0].args if image.tile else None
    return str(args[0] if isinstance(args, tuple) and args else args)


def _loaded(image: ImageFile.ImageFile, rawmode: str) -> Pixels:
    """Load an image as if its file packed the pixels so; `;16L` keeps the name of each plane before it."""
    for number, tile in enumerate(image.tile):
        args: Any = tile.args
        name = f"{args[0][0]}{rawmode}" if rawmode.startswith(";") else rawmode
        image.tile[number] = tile._replace(args=(name, *args[1:]) if isinstance(args, tuple) else name)
    image.load()
    return np.array(image)
