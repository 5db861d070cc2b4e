"""Bytes of an image file to pixels: one array, or one exception with a reason in plain words."""

import os
import struct
import threading
import warnings
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from gemel.data.jpeg import jpeg_pixels

if TYPE_CHECKING:
    from gemel.data.sources import Source

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""What is read, by Pillow's names; anything else that Pillow knows (EPS would start Ghostscript) stays closed."""

PIXEL_LIMIT = 100_000_000
"""Images whose header promises more pixels are not decoded."""


class Unreadable(Exception):
    """An image that cannot be used; `reason` says why.

    Args:
        reason: a few plain words on one line, as they are written to rejected.csv.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def load(source: "Source", index: int) -> NDArray[np.uint8]:
    """Read and decode one image of a source.

    Returns:
        uint8, (H, W) for grey or (H, W, 3) for colour; what the source hands over as pixels passes unchanged.

    Raises:
        Unreadable: the file has vanished, may not be read, or `decode` refuses it.
    """
    try:
        data = source.read(index)
    except OSError as error:
        raise Unreadable(_reason_of_system(error)) from error
    except MemoryError as error:
        raise Unreadable("not enough memory to read it") from error
    return decode(data) if isinstance(data, bytes) else data


def decode(data: bytes) -> NDArray[np.uint8]:
    """The pixels of an image file as a viewer shows them: first frame, upright by its EXIF orientation.

    Grey stays grey, with or without alpha: 1 bit becomes 0 and 255; 16 bits lose their lower byte, because
    Pillow's own `convert("L")` clips at 255 and turns almost every such picture white; for 32 bits see
    `_visible`. Palette, CMYK, YCbCr, Lab and alpha become RGB as Pillow's `convert("RGB")` does: what lies
    under transparent pixels shows.

    Returns:
        uint8, writable and contiguous: (H, W) for grey, (H, W, 3) for colour.

    Raises:
        Unreadable: empty, not an image, an unknown format, truncated or broken, or more pixels promised
            than `PIXEL_LIMIT`; never any other exception, whatever the bytes are.
    """
    if not data:
        raise Unreadable("empty file (0 bytes)")
    try:
        with pillow_warns_nobody(), Image.open(BytesIO(data), formats=FORMATS) as image:
            return _pixels(image, data)
    except UnidentifiedImageError as error:
        raise Unreadable(_reason_of_unidentified(data)) from error
    except Image.DecompressionBombError as error:
        raise Unreadable(f"promises more than {PIXEL_LIMIT:,} pixels") from error
    except MemoryError as error:
        raise Unreadable("not enough memory to decode it") from error
    except _BROKEN as error:
        raise Unreadable(_reason_of_broken(error)) from error


# What bad bytes raise in Pillow. The first four are what 2.7 million mutated files of all formats above raised in
# Pillow 13 (beside DecompressionBombError); the others stand in its source, or were met in older releases.
_BROKEN = (
    OSError,  # truncated or broken streams, of every decoder
    ValueError,  # headers: PPM numbers, palettes, text chunks that grow too large, unsupported conversions
    SyntaxError,  # broken PNG chunks, EXIF blocks that are no TIFF
    TypeError,  # TIFF tags of the wrong type
    AttributeError,  # likewise
    LookupError,  # TIFF and EXIF: a tag that is not there, a list that is too short
    ArithmeticError,  # rationals with a zero denominator, sizes that overflow a C integer
    AssertionError,  # what Pillow takes for certain and a broken header makes false
    RuntimeError,  # the WebP decoder, nested EXIF blocks
    EOFError,  # a frame that is not there
    struct.error,  # values that are cut short
    zlib.error,  # compressed chunks outside the pixels
)

_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_STARTS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}


def _pixels(image: Image.Image, data: bytes) -> NDArray[np.uint8]:
    width, height = image.size
    if width * height > PIXEL_LIMIT:
        raise Unreadable(f"promises {width:,} x {height:,} pixels, more than {PIXEL_LIMIT:,}")
    if not width or not height:
        raise Unreadable(f"has no pixels ({width} x {height})")
    declares_16_bits = image.mode.startswith("I;16") or image.format in ("PPM", "PNG")
    pixels = jpeg_pixels(data, image.mode) if image.format == "JPEG" else None
    if pixels is not None:
        turn = _TURNS.get(_orientation(image))
        return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))
    image.load()
    image.info.pop("transparency", None)  # convert would look for its colour in the new palette, and may fail
    turn = _TURNS.get(_orientation(image))
    upright = image if turn is None else image.transpose(turn)
    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        values = np.array(upright)  # (H, W)
        return (values >> 8).astype(np.uint8) if declares_16_bits and values.dtype.kind != "f" else _visible(values)
    mode = "L" if upright.mode in ("1", "L", "LA") else "RGB"
    # array and not asarray: the latter is read-only, of which torch warns
    return np.array(upright if upright.mode == mode else upright.convert(mode))


def _orientation(image: Image.Image) -> object:
    """EXIF's tag, asked after `load`: Pillow applies TIFF's own tag itself while loading, and then removes it."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except _BROKEN:
        return None  # a broken EXIF block does not spoil the picture


def _visible(values: NDArray[np.int32] | NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey of 32 bits to 8 bits so that the picture can be seen.

    Such files declare no white, so it is the lowest customary one that holds every pixel: 1 (floats), 255 or
    65,535. Pictures outside of that (negative, or brighter) are stretched from their darkest to their brightest pixel.
    """
    with np.errstate(invalid="ignore"):  # a signalling NaN
        exact = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    black, white = float(exact.min()), float(exact.max())
    if black >= 0 and white <= 65535:
        black = 0.0
        white = 1.0 if white <= 1 and values.dtype.kind == "f" else 255.0 if white <= 255 else 65535.0
    return np.rint((exact - black) / ((white - black) or 1.0) * 255).astype(np.uint8)


_PILLOW = r"PIL\."
_lock = threading.Lock()
_decoding = 0
_filters: list[Any] = []


@contextmanager
def pillow_warns_nobody() -> Generator[None]:
    """Keep Pillow's warnings of odd files (large images, EXIF, palettes) from the user, who gets an image or a reason.

    The list of warning filters belongs to the process, and others may save and restore it meanwhile. So the first
    one to enter adds one rule, and the last one to leave takes that rule away, and nothing else.
    """
    global _decoding, _filters
    with _lock:
        if not _decoding:
            warnings.filterwarnings("ignore", module=_PILLOW)
            _filters = _warning_filters()
        _decoding += 1
    try:
        yield
    finally:
        with _lock:
            _decoding -= 1
            if not _decoding:
                for filters in (_filters, _warning_filters()):
                    filters[:] = [one for one in filters if getattr(one[3], "pattern", None) != _PILLOW]


def _warning_filters() -> list[Any]:
    return cast(list[Any], warnings.filters)


def _start_anew() -> None:
    global _lock, _decoding
    _lock, _decoding = threading.Lock(), 0


if hasattr(os, "register_at_fork"):  # a worker forked while another thread held the lock would wait for ever
    os.register_at_fork(after_in_child=_start_anew)


def _reason_of_system(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "vanished: no such file"
    return (error.strerror or str(error) or type(error).__name__).lower()


def _reason_of_unidentified(data: bytes) -> str:
    if not any(data):
        return f"nothing but zero bytes ({len(data):,} of them)"
    started = next((name for start, name in _STARTS.items() if data.startswith(start)), None)
    if started:
        return f"broken: starts as a {started} file, but its header cannot be read"
    if _is_text(data[:512]):
        return "text, not an image"
    return f"not an image, or of an unknown format; known: {', '.join(FORMATS)}"


def _is_text(start: bytes) -> bool:
    text = start.decode("utf-8", errors="ignore")  # a character may be cut in two at the end
    return len(text.encode()) >= len(start) - 3 and all(letter.isprintable() or letter.isspace() for letter in text)


def _reason_of_broken(error: BaseException) -> str:
    message = " ".join(str(error).split())[:100] or type(error).__name__
    printable = "".join(letter if letter.isprintable() else "?" for letter in message)
    is_short = any(word in message.lower() for word in ("truncated", "eof", "not enough"))
    return f"{'truncated' if is_short else 'broken'}: {printable}"
