"""Parts of every chart: axes, ticks, text, the frame."""

import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from gemel.reports.formatting import number

STYLE = Path(__file__).parent / "charts.css"
WIDTH, HEIGHT = 400, 244
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 18, 36
LETTER = 7
"""approximate width of a letter of the ticks, pixels"""


class Mark(NamedTuple):
    """A value with a name."""

    value: float
    name: str


class Axis(NamedTuple):
    """A map from values to pixels along one side of the chart."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def pixel(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)


def bottom_axis(low: float, high: float, *, log: bool = False) -> Axis:
    """Return an axis along the bottom of a chart."""
    return Axis(low, high, LEFT, WIDTH - RIGHT, log)


def left_axis(low: float, high: float, *, log: bool = False) -> Axis:
    """Return an axis along the left side of a chart."""
    return Axis(low, high, HEIGHT - BOTTOM, TOP, log)


def roomy(low: float, high: float, room: float, *, log: bool = False, from_zero: bool = False) -> tuple[float, float]:
    """Return a range widened by a share of itself; one without width gets one."""
    if log:
        factor = max((high / low) ** room, 1.05)
        return low / factor, high * factor
    if high - low <= 1e-9 * max(abs(high), abs(low)):
        low, high = (0.0 if from_zero else low - 0.5 * abs(low or 1)), high + 0.5 * abs(high or 1)
    extra = room * (high - low)
    return low if from_zero else low - extra, high + extra


def ticks(low: float, high: float, count: int = 6, *, whole: bool = False) -> list[float]:
    """Return about `count` round numbers from `low` to `high`; whole ones for counts.

    >>> ticks(0, 30), ticks(-1.3, 0.2), ticks(0, 2, whole=True)
    ([0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0], [-1.25, -1.0, -0.75, -0.5, -0.25, 0.0], [0.0, 1.0, 2.0])
    """
    # a quarter more ticks than asked for are better than half of them
    least = 0.75 * (high - low) / (count - 1)
    unit = 10.0 ** math.floor(math.log10(least))
    step = unit * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * unit >= least)
    if whole:
        step = max(math.ceil(step), 1)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten between `low` and `high`, with 2 and 5 between them where there are few.

    >>> log_ticks(1, 30), log_ticks(0.5, 2e4)
    ([1.0, 2.0, 5.0, 10.0, 20.0], [1.0, 10.0, 100.0, 1000.0, 10000.0])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    found = [factor * 10.0**power for power in powers for factor in factors]
    return [tick for tick in found if low * 0.999 <= tick <= high * 1.001]


def svg(label: str, height: int, parts: Sequence[str]) -> str:
    """Return a drawing of these parts; its colours come from the page, so it serves light and dark mode."""
    return f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {WIDTH} {height}">{"".join(parts)}</svg>'


def sheet(drawings: Sequence[tuple[str, str]], height: int, *, across: int = 2) -> str:
    """Return drawings of one height, each below its title, as an SVG file that needs nothing else.

    Args:
        drawings: titles and drawings; one at least
        height: of each drawing
        across: drawings in a row
    """
    columns, slot = min(across, len(drawings)), height + 30
    parts: list[str] = []
    for index, (title, drawing) in enumerate(drawings):
        left, top = index % columns * (WIDTH + 20), index // columns * slot
        parts.append(text(left + LEFT, top + 16, title, "start", "title"))
        at = f'<svg x="{left}" y="{top + 24}" width="{WIDTH}" height="{height}" preserveAspectRatio="xMinYMin" '
        parts.append(drawing.replace("<svg ", at, 1))
    wide, tall = columns * (WIDTH + 20) - 20, math.ceil(len(drawings) / columns) * slot
    style = f"{STYLE.read_text(encoding='utf-8')}svg {{ width: auto; }}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{tall}" viewBox="0 0 {wide} {tall}">'
        f"<style>{style}</style>{''.join(parts)}</svg>\n"
    )


def text(x: float, y: float, content: str, anchor: str, kind: str = "tick") -> str:
    """Return text at a point; `anchor` is start, middle or end."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def every_so_many(names: Sequence[str], slot: float) -> int:
    """Return n such that every n-th name has room in slots of this width."""
    return max(1, math.ceil((max(len(name) for name in names) * LETTER + 4) / slot))


def name_of_x(name: str) -> str:
    """Return the name of the bottom axis, below the chart."""
    return text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, name, "middle")


def grid(y: Axis, say: Callable[[float], str], *, whole: bool = False) -> str:
    """Draw the bottom line, and a faint line and a number at each tick of the side."""
    lines = [f'<path class="axis" d="M{LEFT} {y.start:.1f}H{WIDTH - RIGHT}"/>']
    for tick in log_ticks(y.low, y.high) if y.log else ticks(y.low, y.high, whole=whole):
        at = y.pixel(tick)
        lines.append(
            f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>' + text(LEFT - 6, at + 4, say(tick), "end")
        )
    return "".join(lines)


def bottom(x: Axis, y: Axis, name: str) -> str:
    """Draw the ticks of the bottom, their numbers and its name."""
    lines = [name_of_x(name)]
    for tick in log_ticks(x.low, x.high) if x.log else ticks(x.low, x.high, 8):
        at = x.pixel(tick)
        lines.append(
            f'<path class="axis" d="M{at:.1f} {y.start:.1f}v4"/>' + text(at, y.start + 15, number(tick), "middle")
        )
    return "".join(lines)
