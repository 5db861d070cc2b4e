"""How a dataset's images are decoded: found from a sample, once for all of them."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemel.data.decode import Unreadable, decode, inspect
from gemel.data.pixel_values import DEPTHS, OPEN, Decoding, is_nearly_one_colour, levels_of
from gemel.settings.colours import COLOURS

if TYPE_CHECKING:
    from gemel.data.sources import Source

SAMPLE = 64
"""images that are looked at"""


class Survey(NamedTuple):
    """A dataset's decoding, and the reasons for what was chosen."""

    decoding: Decoding
    reasons: dict[str, str]
    """by field of the decoding"""
    has_alpha: bool
    is_wide: bool
    """sampled images hold more than 8 bits"""

    @property
    def settings(self) -> dict[str, Any]:
        """The decoding as a run's settings spell it."""
        colour = next((name for name, rgb in COLOURS.items() if rgb == self.decoding.background), None)
        levels = {key: getattr(self.decoding, key) for key in ("white", "black")}
        return {key: int(one) if one is not None and one == int(one) else one for key, one in levels.items()} | {
            "background": colour
        }


def sample_of(count: int) -> list[int]:
    """Return up to `SAMPLE` indices below `count`, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(SAMPLE, count)).round().astype(int)).tolist()


def survey_source(source: "Source", given: Decoding = OPEN) -> Survey:
    """Survey a sample of a source; unreadable files and images that are no files are passed over."""

    def reader(index: int) -> Callable[[], bytes]:
        def read() -> bytes:
            with suppress(OSError, MemoryError):
                data = source.read(index)
                return data if isinstance(data, bytes) else b""
            return b""

        return read

    return survey([reader(index) for index in sample_of(len(source))], given)


def decoded(source: "Source", settings: Mapping[str, Any]) -> "Source":
    """Return the source, decoded as a run's settings say; what they leave open is found from its own images."""
    source.decoding = survey_source(source, Decoding.of(settings)).decoding
    return source


def survey(files: Iterable[Callable[[], bytes]], given: Decoding = OPEN) -> Survey:
    """Choose what `given` leaves open from files, each read by a call of its own.

    Raises:
        UserError: the given black is not below the white that is found.
    """
    reasons: dict[str, str] = {}
    wide: list[NDArray[Any]] = []
    transparent: list[Callable[[], bytes]] = []
    for read in files:
        with suppress(Unreadable):
            found = inspect(read())
            wide += [] if found.values is None else [found.values]
            transparent += [read] * found.has_alpha
    decoding = given
    if wide and given.white is None:
        values = np.concatenate(wide)
        black, white = levels_of(values)
        decoding = decoding._replace(white=white, black=black if given.black is None else given.black).checked()
        reasons["white"] = _reason(values, white)
        if given.black is None and black:
            reasons["black"] = reasons["white"]
    if transparent and given.background is None:
        decoding, reasons["background"] = _with_background(transparent, decoding)
    return Survey(decoding, reasons, bool(transparent), bool(wide))


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
