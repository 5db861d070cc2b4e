"""Bytes of an image file to pixels: one array, or one exception that says why not."""

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from gemel.data.jpeg import jpeg_pixels
from gemel.data.other_files import NotRead, is_tiff, kind_of, values_of
from gemel.data.pixel_values import Decoding, Pixels, levels_of, over, to_bytes, to_levels
from gemel.data.quiet_readers import quiet_readers
from gemel.data.reasons import (
    BROKEN,
    FORMATS,
    reason_of_broken,
    reason_of_other,
    reason_of_system,
    reason_of_unidentified,
)
from gemel.data.wide import Wide, has_channels, rawmode_of, wide_values
from gemel.errors import UserError
from gemel.settings.colours import COLOURS, Rgb

if TYPE_CHECKING:
    from gemel.data.sources import Source

PIXEL_LIMIT = 100_000_000
"""Images whose header promises more pixels are not decoded."""

SAMPLED_VALUES = 16_384
"""values of an image that a sample keeps at most"""


Found = TypeVar("Found")


class Unreadable(Exception):
    """An image that cannot be used; `reason` says why.

    Args:
        reason: a few plain words on one line, as they are written to rejected.csv.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Glance(NamedTuple):
    """An image at a size that is decoded fast."""

    pixels: Pixels
    """(h, w) or (h, w, C), upright; smaller than the image where that is a JPEG file"""
    height: int
    """of the image itself, upright"""
    width: int


class Inspection(NamedTuple):
    """What a file tells about the meaning of its numbers."""

    has_alpha: bool
    values: NDArray[Any] | None
    """(n,) sample of its visible values of more than 8 bits; None where there are none, or the file declares its
    white"""
    channels: int = 3
    """1 of grey images"""
    is_wide: bool = False
    """whether it holds more than 8 bits"""


def load(source: "Source", index: int) -> Pixels:
    """Read and decode one image of a source, by the source's `decoding`.

    Returns:
        As `decode`; pixels of 8 bits that the source holds are returned unchanged.

    Raises:
        Unreadable: the file has vanished, may not be read, or `decode` refuses it.
    """
    try:
        data = source.read(index)
    except OSError as error:
        raise Unreadable(reason_of_system(error)) from error
    except MemoryError as error:
        raise Unreadable("not enough memory to read it") from error
    return pixels_of(data, source.decoding)


def pixels_of(data: bytes | NDArray[Any], decoding: Decoding) -> Pixels:
    """Return the pixels of a file, or of an array (H, W) or (H, W, C) that somebody holds.

    Raises:
        Unreadable: as `decode`.
    """
    if isinstance(data, bytes):
        return decode(data, decoding)
    return _shown(Wide(data[..., 0] if data.ndim == 3 and data.shape[2] == 1 else data), decoding)


def decode(data: bytes, decoding: Decoding | None = None) -> Pixels:
    """Return the pixels of an image file as a viewer shows them: first frame, upright by its EXIF orientation.

    Grey stays grey, with or without alpha (over a grey background); 1 bit becomes 0 and 255. Palette, CMYK, YCbCr, Lab
    and alpha become RGB. Transparent pixels show the background. More than 8 bits are scaled from black and white to
    0 and 255: as floats nothing is lost but what lies beyond them; as bytes full 16 bits lose their lower byte.

    Args:
        data: the file.
        decoding: of the dataset that the image belongs to; None: the image is taken for a dataset of its own.

    Returns:
        uint8, or float32 if the dataset's decoding says so; writable and contiguous: (H, W) for grey, (H, W, 3) for
        colour, (H, W, C) of other channels.

    Raises:
        Unreadable: empty, not an image, an unknown format, truncated or broken, of other channels than the dataset's,
            or more pixels promised than `PIXEL_LIMIT`; never any other exception, whatever the bytes are.
    """
    return _opened(data, decoding, lambda image: _pixels(image, data, decoding), lambda wide: _shown(wide, decoding))


def exact(data: bytes, decoding: Decoding | None = None) -> NDArray[Any]:
    """Return the numbers of an image file exactly as it holds them, (H, W) or (H, W, C), in their own type.

    Palettes, CMYK and alpha are not taken apart: of what Pillow reads in 8 bits these are the pixels of `decode`. A
    DICOM file's values are rescaled as it says.

    Args:
        data: the file.
        decoding: whose channels and pages are read; None: as many as there are, and the first page.

    Raises:
        Unreadable: as `decode`.
    """

    def values(image: ImageFile.ImageFile) -> NDArray[Any]:
        wide = wide_values(image, data, narrow=False)
        return _narrow(image, COLOURS["white"]) if wide is None else wide.values

    return _opened(data, decoding, values, lambda wide: wide.values)


def glance(data: bytes, decoding: Decoding | None = None, *, least: int) -> Glance:
    """Return an image as `decode` does, but JPEG files reduced, to at least `least` pixels of the shorter side.

    Raises:
        Unreadable: as `decode`, for the same files.
    """

    def read(image: ImageFile.ImageFile) -> Glance:
        pixels = _pixels(image, data, decoding, least)
        width, height = image.size
        is_turned = _orientation(image) in _ON_THE_SIDE
        return Glance(pixels, width, height) if is_turned else Glance(pixels, height, width)

    def look(wide: Wide) -> Glance:
        pixels = _shown(wide, decoding)
        return Glance(pixels, *pixels.shape[:2])

    return _opened(data, decoding, read, look)


def inspect(data: bytes | NDArray[Any], decoding: Decoding | None = None) -> Inspection:
    """Look at what `decode` needs to know of a dataset: alpha channel, number of channels, values beyond 8 bits.

    Args:
        data: a file, or an array (H, W) or (H, W, C).
        decoding: whose channels and pages are read, where they are chosen.

    Raises:
        Unreadable: as `decode`.
    """
    if not isinstance(data, bytes):
        return _inspection_of(Wide(data))
    return _opened(data, decoding, lambda image: _inspection(image, data), _inspection_of)


def _opened(
    data: bytes,
    decoding: Decoding | None,
    read: Callable[[ImageFile.ImageFile], Found],
    take: Callable[[Wide], Found],
) -> Found:
    """Read a file by Pillow, else by the reader that it needs."""
    if not data:
        raise Unreadable("empty file (0 bytes)")
    kind = kind_of(data, decoding)
    with quiet_readers():
        try:
            if kind is None:
                try:
                    return _by_pillow(data, read)
                except UnidentifiedImageError as error:
                    if not is_tiff(data):
                        raise Unreadable(reason_of_unidentified(data)) from error
                    kind = "tiff"
            return take(values_of(kind, data, decoding))
        except NotRead as error:
            raise Unreadable(reason_of_other(kind, data, str(error))) from error
        except UserError as error:  # a package is missing
            raise Unreadable(reason_of_other(kind, data, str(error))) from error
        except Image.DecompressionBombError as error:
            raise Unreadable(f"promises more than {PIXEL_LIMIT:,} pixels") from error
        except MemoryError as error:
            raise Unreadable("not enough memory to decode it") from error
        except BROKEN as error:
            raise Unreadable(reason_of_broken(error)) from error


def _by_pillow(data: bytes, read: Callable[[ImageFile.ImageFile], Found]) -> Found:
    with Image.open(BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > PIXEL_LIMIT:
            raise Unreadable(f"promises {width:,} x {height:,} pixels, more than {PIXEL_LIMIT:,}")
        if not width or not height:
            raise Unreadable(f"has no pixels ({width} x {height})")
        if image.format == "TIFF" and has_channels(image):
            raise UnidentifiedImageError("Pillow would give the first channel alone")
        return read(image)


_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_ON_THE_SIDE = (5, 6, 7, 8)
"""orientations in which rows of the file are columns of the picture"""


def _pixels(image: ImageFile.ImageFile, data: bytes, decoding: Decoding | None, least: int = 0) -> Pixels:
    if decoding is not None and (decoding.floats or not decoding.is_of_colours):
        return _levels(image, data, decoding)
    pixels = jpeg_pixels(data, image.mode, least) if image.format == "JPEG" else None
    if pixels is None:
        narrow = decoding is not None and (decoding.black or 0, decoding.white or 65535) == (0, 65535)
        wide = wide_values(image, data, narrow=narrow)
        background = decoding.background if decoding else None
        pixels = _narrow(image, background or COLOURS["white"]) if wide is None else _scaled(wide, decoding)
    turn = _TURNS.get(_orientation(image))
    return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))


def _levels(image: ImageFile.ImageFile, data: bytes, decoding: Decoding) -> Pixels:
    """Return float32 pixels, upright."""
    wide = wide_values(image, data, narrow=False)
    pixels = _shown(Wide(_narrow(image, decoding.background or COLOURS["white"])) if wide is None else wide, decoding)
    number = _orientation(image)
    if number in _ON_THE_SIDE:
        pixels = pixels.swapaxes(0, 1)
    if number in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if number in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _inspection_of(wide: Wide) -> Inspection:
    values = wide.values
    is_wide = values.dtype != np.uint8 and values.dtype != np.bool_
    sample = wide.visible[:: wide.visible.size // SAMPLED_VALUES + 1] if is_wide and wide.window is None else None
    return Inspection(False, sample, 1 if values.ndim == 2 else values.shape[2], is_wide)


def _inspection(image: ImageFile.ImageFile, data: bytes) -> Inspection:
    has_alpha = image.has_transparency_data
    wide = wide_values(image, data, narrow=False)
    if wide is None:
        return Inspection(has_alpha, None, 1 if image.mode in ("1", "L", "LA", "La") else 3)
    found = _inspection_of(wide)._replace(has_alpha=has_alpha)
    return found._replace(values=None) if wide.declares_white else found


def _narrow(image: ImageFile.ImageFile, background: Rgb) -> Pixels:
    """Return the 8 bits of each channel that Pillow decodes, over the background where there is transparency."""
    rawmode = rawmode_of(image)
    image.load()
    if image.has_transparency_data and image.mode in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa"):
        if image.format == "PNG" and image.mode in ("L", "RGB"):
            image.info["transparency"] = _transparency(image.info["transparency"], rawmode)
        return np.array(_composited(image, background))
    image.info.pop("transparency", None)  # convert would look for its colour in the new palette, and may fail
    mode = "L" if image.mode in ("1", "L") else "RGB"
    # array and not asarray: the latter is read-only, of which torch warns
    return np.array(image if image.mode == mode else image.convert(mode))


def _transparency(value: int | tuple[int, ...], rawmode: str) -> int | tuple[int, ...]:
    """Return a PNG's transparent grey or colour, which Pillow hands over as it stands in the file, in 8 bits."""
    if isinstance(value, tuple):
        return tuple(channel & 255 for channel in value)
    return (value * {"L;2": 85, "L;4": 17}.get(rawmode, 1)) & 255


def _composited(image: ImageFile.ImageFile, background: Rgb) -> Image.Image:
    is_grey = image.mode in ("1", "L", "LA", "La") and len(set(background)) == 1
    straight = image.convert("LA") if image.mode == "La" else image
    straight = straight.convert("LA" if is_grey else "RGBA")
    opaque, opacity = straight.convert("L" if is_grey else "RGB"), straight.getchannel("A")
    if image.format == "BMP" and opacity.getextrema() == (0, 0):
        return opaque  # many programs write zeros where bitmaps have no alpha channel
    canvas = Image.new(opaque.mode, image.size, background[0] if is_grey else background)
    canvas.paste(opaque, mask=opacity)
    return canvas


def _shown(wide: Wide, decoding: Decoding | None) -> Pixels:
    """Return the pixels of values that a reader gave, if they have as many channels as the dataset's images."""
    channels = 1 if wide.values.ndim == 2 else wide.values.shape[2]
    shown = decoding.shown if decoding else 3
    if channels != shown and (channels, shown) != (1, 3):
        raise Unreadable(f"has {channels} channel{'s' * (channels > 1)}, where the dataset's images have {shown}")
    if wide.values.dtype == np.bool_:
        wide = wide._replace(values=wide.values.astype(np.uint8) * np.uint8(255))
    if wide.values.dtype == np.uint8 and not (decoding and decoding.floats):
        return wide.values
    return _scaled(wide, decoding)


def _scaled(wide: Wide, decoding: Decoding | None) -> Pixels:
    background = decoding.background if decoding else None
    floats = decoding is not None and decoding.floats
    if wide.declares_white:
        decoding = Decoding(65535.0, 0.0, background)
    elif wide.window is not None and (decoding is None or decoding.white is None):
        decoding = Decoding(wide.window[1], wide.window[0], background)
    elif decoding is None:
        black, white = levels_of(wide.visible)
        decoding = Decoding(white, black)
    pixels = to_levels(wide.values, decoding) if floats else to_bytes(wide.values, decoding)
    if wide.white_is_zero:
        pixels = 255 - pixels
    if wide.opacity is None:
        return pixels
    return over(pixels, wide.opacity, background, premultiplied=wide.premultiplied)


def _orientation(image: Image.Image) -> object:
    """Return EXIF's tag; asked after `load`: Pillow applies a TIFF's own tag while loading, and then removes it."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except BROKEN:
        return None  # a broken EXIF block does not spoil the picture
