"""How a dataset's images are decoded: found from a sample, once for all of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemel.data.decode import Inspection, Unreadable, decode, inspect
from gemel.data.pixel_values import COLOURS_SEEN, DEPTHS, OPEN, Decoding, Display, is_nearly_one_colour, levels_of
from gemel.samples import evenly_spread
from gemel.settings.colours import COLOURS

if TYPE_CHECKING:
    from gemel.data.sources import Source

SAMPLE = 64
"""images that are looked at"""


Data = bytes | NDArray[Any]
"""a file, or an array that a source holds"""


class Survey(NamedTuple):
    """A dataset's decoding, and the reasons for what was chosen."""

    decoding: Decoding
    reasons: dict[str, str]
    """by field of the decoding"""
    has_alpha: bool
    is_wide: bool
    """sampled images hold more than 8 bits"""


def sample_of(count: int) -> list[int]:
    """Return up to `SAMPLE` indices below `count`, evenly spread."""
    return evenly_spread(count, SAMPLE).tolist()


def survey_source(source: "Source", given: Decoding = OPEN) -> Survey:
    """Survey a sample of a source; unreadable files and images that are no files are passed over."""

    def reader(index: int) -> Callable[[], Data]:
        def read() -> Data:
            with suppress(OSError, MemoryError):
                data = source.read(index)
                return data if isinstance(data, bytes) or data.ndim > 1 else b""  # vectors have no pixels
            return b""

        return read

    return survey([reader(index) for index in sample_of(len(source))], given)


def decoded(source: "Source", settings: Mapping[str, Any]) -> "Source":
    """Return the source, decoded as a run's settings say; what they leave open is found from its own images."""
    source.decoding = survey_source(source, Decoding.of(settings)).decoding
    source.display = Display.of(settings)
    return source


def survey(files: Iterable[Callable[[], Data]], given: Decoding = OPEN) -> Survey:
    """Choose what `given` leaves open from files or arrays, each read by a call of its own.

    Raises:
        UserError: the given black is not below the white that is found, or 8 bits don't go with the channels.
    """
    reasons: dict[str, str] = {}
    wide: list[NDArray[Any]] = []
    transparent: list[Callable[[], bytes]] = []
    seen: list[Inspection] = []
    for read in files:
        with suppress(Unreadable):
            data = read()
            seen.append(found := inspect(data, given))
            wide += [] if found.values is None else [found.values]
            transparent += [_reader_of_file(read)] * found.has_alpha
    decoding = _with_channels(seen, given, reasons)
    if wide and given.white is None:
        values = np.concatenate(wide) if len({one.dtype for one in wide}) == 1 else _joined(wide)
        black, white = levels_of(values)
        decoding = decoding._replace(white=white, black=black if given.black is None else given.black).checked()
        reasons["white"] = _reason(values, white)
        if given.black is None and black:
            reasons["black"] = reasons["white"]
    if transparent and given.background is None:
        decoding, reasons["background"] = _with_background(transparent, decoding)
    return Survey(decoding, reasons, bool(transparent), any(one.is_wide for one in seen))


def _with_channels(seen: Sequence[Inspection], given: Decoding, reasons: dict[str, str]) -> Decoding:
    """Return the decoding with the commonest number of channels, and floats where bytes would lose something."""
    counts = Counter(one.channels for one in seen)
    channels, floats = given.channels, given.floats
    if channels is None:
        found = counts.most_common(1)[0][0] if counts else COLOURS_SEEN
        channels = COLOURS_SEEN if found in (1, COLOURS_SEEN) else found
        if channels != COLOURS_SEEN:
            reasons["channels"] = f"{counts[channels]} of {len(seen)} sampled images have them"
    if floats is None:
        wide = sum(one.is_wide for one in seen)
        floats = wide > 0 or channels not in (1, COLOURS_SEEN)
        if floats:
            why = f"{wide} of {len(seen)} sampled images hold more than 8 bits" if wide else f"{channels} channels"
            reasons["pixels"] = why
    return given._replace(channels=channels, floats=floats).checked()


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return values of several types as the one that holds them all, so that their levels are those of numbers."""
    return np.concatenate([one.astype(np.float64) for one in parts])


def _reader_of_file(read: Callable[[], Data]) -> Callable[[], bytes]:
    def file() -> bytes:
        data = read()
        return data if isinstance(data, bytes) else b""

    return file


def _with_background(files: list[Callable[[], bytes]], decoding: Decoding) -> tuple[Decoding, str]:
    """Return the decoding with white behind transparent pixels, or what shows more where most images vanish there."""

    def vanished(colour: str) -> int:
        over = decoding._replace(background=COLOURS[colour])
        return sum(is_nearly_one_colour(decode(read(), over)) for read in files)

    name, reason, count = "white", f"alpha channel in {len(files)} of the sampled images", vanished("white")
    if count > len(files) / 2:
        other = min(("black", "grey"), key=vanished)
        if vanished(other) < count:
            name, reason = other, f"over white {count} of {len(files)} sampled images with an alpha channel vanish"
    return decoding._replace(background=COLOURS[name]), reason


def _reason(values: NDArray[Any], white: float) -> str:
    values = values[np.isfinite(values)]
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    if values.dtype == np.uint16:
        bits = f": {DEPTHS[white]} bits" if DEPTHS.get(white, 16) < 16 else ""
        return f"sampled images of 16 bits reach {high:,}{bits}"
    return f"values of sampled images reach from {low:,.6g} to {high:,.6g}"
