"""Image files that Pillow does not read as they are: arrays, DICOM, TIFF of any number of channels and pages."""

import tokenize
import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gemel.data.pixel_values import CHANNELS, Decoding, channels_last
from gemel.data.reasons import BROKEN
from gemel.data.wide import Wide, is_array_of_rows
from gemel.errors import UserError
from gemel.extras import extra
from gemel.settings.pages import Pages

Kind = Literal["array", "dicom", "tiff"]

ARRAYS = ("image", "images", "pixels", "arr_0")
"""names of the image in an .npz file of several arrays"""

_MOST_VALUES = 400_000_000
"""A file that promises more numbers is not decoded."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class NotRead(ValueError):
    """A file of one of these kinds that cannot be used; the text says why."""


def kind_of(data: bytes, decoding: Decoding | None) -> Kind | None:
    """Return which of these readers a file needs by its first bytes; None: Pillow has a look at it first."""
    if data.startswith((b"\x93NUMPY", b"PK\3\4")):
        return "array"
    if data[128:132] == b"DICM":
        return "dicom"
    is_colour = decoding is None or (decoding.is_of_colours and decoding.pages == "first")
    return None if is_colour or not is_tiff(data) else "tiff"


def is_tiff(data: bytes) -> bool:
    """Return whether a file is a TIFF."""
    return data.startswith(_TIFF)


def values_of(kind: Kind, data: bytes, decoding: Decoding | None) -> Wide:
    """Return the numbers of a file, exactly as it holds them, and what it says about their meaning.

    Returns:
        (H, W), or (H, W, C) of 2 channels or more.

    Raises:
        NotRead: damaged, or not an image.
        UserError: the package that reads it is missing.
    """
    readers: dict[Kind, Callable[[bytes, Pages], Wide]] = {"array": _array, "dicom": _dicom, "tiff": _tiff}
    found = readers[kind](data, decoding.pages if decoding else "first")
    values = found.values
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise NotRead(f"holds an array of shape {values.shape}, no image")
    if values.ndim == 3 and values.shape[2] > CHANNELS:
        raise NotRead(f"has {values.shape[2]} channels, more than {CHANNELS}")
    if values.dtype.kind not in "buif":
        raise NotRead(f"holds {values.dtype}, no real numbers")
    order = values.dtype.newbyteorder("=")
    return found._replace(values=np.ascontiguousarray(values, order))


def _array(data: bytes, pages: Pages) -> Wide:  # noqa: ARG001
    try:
        loaded: Any = np.load(BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return Wide(channels_last(loaded))
        name = next((one for one in ARRAYS if one in loaded.files), loaded.files[0] if len(loaded.files) == 1 else None)
        if name is None:
            raise NotRead(f"holds the arrays {', '.join(loaded.files[:5])}; call the image's one image")
        return Wide(channels_last(loaded[name]))
    except NotRead:
        raise
    except (*BROKEN, zipfile.BadZipFile, tokenize.TokenError) as error:
        raise NotRead(f"broken array: {_line(error)}") from error


def _dicom(data: bytes, pages: Pages) -> Wide:
    """Return stored values, rescaled as the file says (to Hounsfield units in CT), and the window that it names."""
    pydicom = extra("pydicom", "formats", "a DICOM file")
    try:
        return _of_dicom(pydicom.dcmread(BytesIO(data)), pages)
    except NotRead:
        raise
    except (*BROKEN, pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException) as error:
        raise NotRead(f"broken or unsupported DICOM: {_line(error)}") from error


def _of_dicom(file: Any, pages: Pages) -> Wide:
    frames = int(file.get("NumberOfFrames", 1) or 1)
    _check_promise(int(file.Rows) * int(file.Columns) * int(file.get("SamplesPerPixel", 1)) * frames)
    values: NDArray[Any] = extra("pydicom.pixels", "formats", "a DICOM file").apply_rescale(file.pixel_array, file)
    if frames > 1:
        values = _of_pages(values, pages)
    is_whole = values.dtype.kind == "f" and bool((values == np.rint(values)).all())
    return Wide(
        values.astype(np.int32) if is_whole else values,
        white_is_zero=file.get("PhotometricInterpretation") == "MONOCHROME1",
        window=_window(file),
    )


def _window(file: Any) -> tuple[float, float] | None:
    """Return the values that the first of the file's windows shows as black and white (DICOM PS3.3 C.11.2.1.2)."""
    try:
        center, width = (np.atleast_1d(file[name].value)[0] for name in ("WindowCenter", "WindowWidth"))
        center, width = float(center), float(width)
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    exact = str(file.get("VOILUTFunction", "LINEAR")).upper() == "LINEAR_EXACT"
    if width <= (0 if exact else 1):
        return None
    black = center - width / 2 if exact else center - 0.5 - (width - 1) / 2
    return black, black + (width if exact else width - 1)


def _tiff(data: bytes, pages: Pages) -> Wide:
    """Return the first series: channels and samples are channels, pages of depth, time or unknown meaning are pages."""
    tifffile = extra("tifffile", "formats", "this TIFF file")
    try:
        with tifffile.TiffFile(BytesIO(data)) as file:
            page, series = file.pages[0], file.series[0]
            white_is_zero = int(page.photometric) == 0
            axes: str = "YXC" if is_array_of_rows(page.description) else series.axes
            if pages == "first" and not set(axes) - set("YXS") - {"I", "Q", "Z", "T"}:
                series, axes = page, page.axes
            _check_promise(int(np.prod(series.shape, dtype=np.int64)))
            values: NDArray[Any] = series.asarray()
    except NotRead:
        raise
    except ImportError as error:
        raise UserError(f"this TIFF file needs the package {error.name}: pip install 'gemel[formats]'") from error
    except BROKEN as error:
        raise NotRead(f"broken or unsupported TIFF: {_line(error)}") from error
    if not {"Y", "X"} <= set(axes) or values.ndim != len(axes):
        raise NotRead(f"TIFF of axes {axes}, no image")
    channels = [number for number, one in enumerate(axes) if one in "CS"]
    inside = [axes.index("Y"), axes.index("X")]
    others = [number for number in range(len(axes)) if number not in (*channels, *inside)]
    values = values.transpose(*others, *inside, *channels)
    height, width = values.shape[len(others) : len(others) + 2]
    values = values.reshape(-1, height, width, max(1, int(np.prod(values.shape[len(others) + 2 :], dtype=np.int64))))
    return Wide(_of_pages(values, pages), white_is_zero=white_is_zero)


def _of_pages(values: NDArray[Any], pages: Pages) -> NDArray[Any]:
    """Return one image of pages (P, H, W) or (P, H, W, C)."""
    if pages == "max":
        return values.max(0)
    if pages == "first":
        return values[0]
    moved = np.moveaxis(values, 0, 2)  # (H, W, P) or (H, W, P, C)
    return moved.reshape(*moved.shape[:2], -1)


def _check_promise(count: int) -> None:
    if count > _MOST_VALUES:
        raise NotRead(f"promises {count:,} numbers, more than {_MOST_VALUES:,}")


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:100] or type(error).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in text)
