"""One pass over the files of a dataset: of each image its digest, its size, a thumbnail and a few numbers."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gemel.data.decode import Glance, Unreadable, glance, pixels_of
from gemel.data.pixel_values import NEARLY, Display, Pixels, is_nearly_one_colour
from gemel.data.quiet_readers import quiet_readers
from gemel.data.reasons import reason_of_system
from gemel.data.sources import Source
from gemel.launcher import cores

SIDE = 48
"""of a thumbnail, pixels; the image is squeezed into a square"""

SHORTER = 128
"""pixels of the shorter side at which sharpness is measured; smaller images are measured as they are"""

SMALLEST = 24
"""pixels a side of the smallest image whose sharpness is measured"""

BRIGHTEST = 98
"""percentile of an image's grey levels that tells how bright its bright parts are"""

CHUNK = 64
"""images that a thread takes at a time"""

_ROUNDING = (4**2 + 4) / 12
"""variance of the Laplacian of rounding errors"""

_TAIL = 3.1
"""percent of an image's pixels that may lie outside on each side"""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Measured:
    """What a pass found; row i of each array is of image `indices[i]`, the readable ones, in their order."""

    indices: NDArray[np.int64]
    """(n,) in the source"""
    digests: NDArray[np.uint64]
    """(n, 2) of the file's bytes"""
    bytes: NDArray[np.int64]
    """(n,) of the file, or of the pixels where there is none"""
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    thumbnails: NDArray[np.uint8]
    """(n, SIDE, SIDE) grey"""
    colours: NDArray[np.float32]
    """(n, 3) mean luminance, and blue and red less it, levels of 255"""
    sharpness: NDArray[np.float32]
    """(n,) see `sharpness`; NaN where it can't be told"""
    brightness: NDArray[np.float32]
    """(n,) the `BRIGHTEST` percentile of luminance, 0..1"""
    is_uniform: NDArray[np.bool_]
    """(n,) whether an image is nearly one colour"""
    rejected: dict[int, str]
    """reasons of the unreadable ones, by index in the source"""

    def __len__(self) -> int:
        return len(self.indices)


def measure(
    source: Source,
    indices: Sequence[int] | NDArray[np.int64] | None = None,
    *,
    workers: int | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> Measured:
    """Read each image once, decode it at a reduced size where its format allows, and measure it.

    Args:
        source: the images.
        indices: which of them, in increasing order; None: all.
        workers: threads; None: one for each core.
        tell: told how many of how many are done.
    """
    wanted = np.arange(len(source)) if indices is None else np.asarray(indices, np.int64)
    _ = source.decoding  # found once, before threads ask for it
    table = _Table(len(wanted))
    parts = [range(start, min(start + CHUNK, len(wanted))) for start in range(0, len(wanted), CHUNK)]

    def fill(part: range) -> int:
        for row in part:
            table.fill(row, source, int(wanted[row]))
        return part.stop

    with quiet_readers(), ThreadPoolExecutor(workers or cores(), "check") as pool:
        try:
            for done in pool.map(fill, parts):
                if tell is not None:
                    tell(done, len(wanted))
        finally:
            pool.shutdown(cancel_futures=True)
    return table.measured(wanted)


def sharpness(grey: NDArray[np.float32]) -> float:
    r"""Return how much of an image's detail is fine: Var(∇²g) / Var(∇²g₄), where g₄ is g at a quarter of its size.

    The variance of the Laplacian, normalised: neither contrast nor content moves it much. Photographs have 0.2 to 2,
    letters 0.1 to 0.4, both about 0.02 after a Gaussian of 1.5 pixels and 0.01 after one of 2. Rounding to whole
    levels, which adds noise of variance 1/12 to each pixel, is subtracted.

    Args:
        grey: g (h, w), whole levels of 255.

    Returns:
        at least 0; NaN for an image below `SMALLEST` pixels a side, or with nothing in it.
    """
    height, width = (side // 4 * 4 for side in grey.shape)
    if min(height, width) < SMALLEST:
        return float("nan")
    even = grey[:height, :width]
    quarter = even.reshape(height // 4, 4, width // 4, 4).mean((1, 3))
    fine, coarse = _laplacian_variance(even) - _ROUNDING, _laplacian_variance(quarter) - _ROUNDING / 16
    return max(fine, 0.0) / coarse if coarse > 1 else float("nan")


def _laplacian_variance(grey: NDArray[np.float32]) -> float:
    inner = grey[1:-1, 1:-1]
    found = 4 * inner - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    return float(found.var())


class _Table:
    """The arrays of `Measured`, a row for each image asked for; threads fill rows of their own."""

    def __init__(self, count: int) -> None:
        self.digests = np.zeros((count, 2), np.uint64)
        self.bytes, self.heights, self.widths = (np.zeros(count, np.int64) for _ in range(3))
        self.thumbnails = np.zeros((count, SIDE, SIDE), np.uint8)
        self.colours = np.zeros((count, 3), np.float32)
        self.sharpness, self.brightness = np.zeros(count, np.float32), np.zeros(count, np.float32)
        self.is_uniform = np.zeros(count, bool)
        self._reasons: dict[int, str] = {}

    def fill(self, row: int, source: Source, index: int) -> None:
        """Measure an image, or note why it can't be read."""
        try:
            data = source.read(index)
            if isinstance(data, bytes):
                seen = glance(data, source.decoding, least=SHORTER)
                self.bytes[row], self.digests[row] = len(data), _digest(data)
            else:
                seen = Glance(pixels_of(data, source.decoding), *data.shape[:2])
                self.bytes[row], self.digests[row] = data.nbytes, _digest(str(data.shape).encode() + data.tobytes())
        except Unreadable as error:
            self._reasons[row] = error.reason
        except OSError as error:
            self._reasons[row] = reason_of_system(error)
        except MemoryError:
            self._reasons[row] = "not enough memory to read it"
        else:
            self.heights[row], self.widths[row] = seen.height, seen.width
            self._look(row, seen.pixels, source.display)

    def _look(self, row: int, pixels: Pixels, display: Display) -> None:
        pixels = display.picture(pixels)
        image = Image.fromarray(pixels)
        # reduced by whole numbers first: the filter then reads fewer pixels, and the thumbnail hardly differs
        square = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=1.5)
        small = np.asarray(square.convert("RGB"), np.float32)
        luma = small @ _LUMA  # (SIDE, SIDE)
        red, _, blue = small.mean((0, 1)).tolist()
        self.thumbnails[row] = np.rint(luma)
        self.colours[row] = luma.mean(), blue - luma.mean(), red - luma.mean()
        grey = image.convert("L")
        counts = np.cumsum(grey.histogram())
        low, high, bright = np.searchsorted(counts, np.array([_TAIL, 100 - _TAIL, BRIGHTEST]) / 100 * counts[-1])
        self.brightness[row] = bright / 255
        # Were each channel within NEARLY levels but for 1 %, luminance would be so but for 3 %: asked of few images.
        self.is_uniform[row] = high - low <= NEARLY + 2 and is_nearly_one_colour(pixels)
        scale = SHORTER / min(image.size)
        if scale < 1:
            width, height = (round(side * scale) for side in grey.size)
            grey = grey.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        self.sharpness[row] = sharpness(np.asarray(grey, np.float32))

    def measured(self, indices: NDArray[np.int64]) -> Measured:
        """Return the rows of the images that could be read."""
        read = np.ones(len(indices), bool)
        read[list(self._reasons)] = False
        names = [one.name for one in fields(Measured) if hasattr(self, one.name)]
        arrays: dict[str, Any] = {name: getattr(self, name) for name in names}
        rejected = {int(indices[row]): reason for row, reason in sorted(self._reasons.items())}
        if rejected:
            arrays = {name: array[read] for name, array in arrays.items()}
        return Measured(indices=indices[read], rejected=rejected, **arrays)


def _digest(data: bytes) -> NDArray[np.uint64]:
    return np.frombuffer(hashlib.sha256(data).digest()[:16], np.uint64)
