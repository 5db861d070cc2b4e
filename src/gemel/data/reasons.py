"""Why an image file cannot be used, in plain words."""

import struct
import zlib
from io import BytesIO

from PIL import TiffImagePlugin

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""formats that are read, by Pillow's names; anything else that Pillow knows (EPS would start Ghostscript) is refused"""

# What bad bytes raise in Pillow. The first four are what 2.7 million mutated files of all formats above raised in
# Pillow 13 (beside DecompressionBombError); the others are in its source, or were met in older releases.
BROKEN = (
    OSError,  # truncated or broken streams, of every decoder
    ValueError,  # headers: PPM numbers, palettes, text chunks that grow too large, unsupported conversions
    SyntaxError,  # broken PNG chunks, EXIF blocks that are no TIFF
    TypeError,  # TIFF tags of the wrong type
    AttributeError,  # likewise
    LookupError,  # TIFF and EXIF: a missing tag, a list that is too short
    ArithmeticError,  # rationals with a zero denominator, sizes that overflow a C integer
    AssertionError,  # what Pillow takes for granted and a broken header makes false
    RuntimeError,  # the WebP decoder, nested EXIF blocks
    EOFError,  # a missing frame
    struct.error,  # truncated values
    zlib.error,  # compressed chunks outside the pixels
)

_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
}

_BITS, _PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT = 258, 262, 277, 339


_OTHER_STARTS = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf", b"PF", b"\x93NUMPY")


def starts_as_image(start: bytes) -> bool:
    """Return whether a file begins as one of the formats that are read; 132 bytes tell."""
    return start.startswith((*_STARTS, *_OTHER_STARTS)) or start[8:12] == b"WEBP" or start[128:132] == b"DICM"


def reason_of_system(error: OSError) -> str:
    """Return why the operating system gives no bytes."""
    if isinstance(error, FileNotFoundError):
        return "vanished: no such file"
    return (error.strerror or str(error) or type(error).__name__).lower()


def reason_of_unidentified(data: bytes) -> str:
    """Return why Pillow opens none of its formats."""
    if not any(data):
        return f"nothing but zero bytes ({len(data):,} of them)"
    started = next((name for start, name in _STARTS.items() if data.startswith(start)), None)
    if started:
        return f"broken: starts as a {started} file, but its header cannot be read"
    if _is_text(data[:512]):
        return "text, not an image"
    return f"not an image, or of an unknown format; known: {', '.join(FORMATS)}, DICOM, NumPy"


def reason_of_other(kind: str | None, data: bytes, reason: str) -> str:
    """Return why a file that Pillow does not read can't be used, with what is in it."""
    bands = _bands(data) if kind == "tiff" else ""
    if kind == "tiff" and not bands:
        return "broken: starts as a TIFF file, but its header cannot be read"
    return f"TIFF of {bands}: {reason}" if bands else reason


def _bands(data: bytes) -> str:
    """Return the number and the type of a TIFF's bands in words; nothing where the header is broken."""
    file = BytesIO(data)
    try:
        header = file.read(8)
        directory = TiffImagePlugin.ImageFileDirectory_v2(header + (file.read(8) if 43 in header[2:4] else b""))
        file.seek(directory.next)
        directory.load(file)
        bits, kinds = directory[_BITS], directory.get(_SAMPLE_FORMAT, (1,))
        count = int(directory.get(_SAMPLES, len(bits)))
        kind = {2: "-bit signed integers", 3: "-bit floats", 5: "-bit complex integers", 6: "-bit complex floats"}
        each = " and ".join(f"{bit:d}" for bit in sorted(set(bits))[:3])
        colour = {0: " (grey)", 1: " (grey)", 2: " (RGB)", 5: " (CMYK)"}.get(directory.get(_PHOTOMETRIC, 0), "")
        order = ", big-endian" if data.startswith(b"MM") else ""
        return f"{count} band{'s' * (count != 1)} of {each}{kind.get(kinds[0], ' bits')}{colour}{order}"
    except BROKEN:
        return ""


def _is_text(start: bytes) -> bool:
    text = start.decode("utf-8", errors="ignore")  # a character may be cut in two at the end
    return len(text.encode()) >= len(start) - 3 and all(letter.isprintable() or letter.isspace() for letter in text)


def reason_of_broken(error: BaseException) -> str:
    """Return Pillow's own words on one line, after `truncated` or `broken`."""
    message = " ".join(str(error).split())[:100] or type(error).__name__
    printable = "".join(letter if letter.isprintable() else "?" for letter in message)
    is_short = any(word in message.lower() for word in ("truncated", "eof", "not enough"))
    return f"{'truncated' if is_short else 'broken'}: {printable}"
