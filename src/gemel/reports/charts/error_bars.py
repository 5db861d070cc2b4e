"""Charts of means with their standard errors, over numbers or over names."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from gemel.metrics.spread import Spread
from gemel.reports.charts.svg import (
    HEIGHT,
    LEFT,
    LETTER,
    Axis,
    bottom,
    bottom_axis,
    every_so_many,
    grid,
    left_axis,
    name_of_x,
    roomy,
    svg,
    text,
)
from gemel.reports.charts.svg_charts import style
from gemel.reports.formatting import number, plural

LEGEND = 16
"""height of a line of the legend, pixels"""
CAP = 4
"""half the width of a whisker's end, pixels"""


class Points(NamedTuple):
    """One line: positions along the bottom, and the mean at each."""

    name: str
    x: tuple[float, ...]
    y: tuple[Spread, ...]
    colour: int = 0


def spread_chart(
    title: str,
    lines: Sequence[Points],
    *,
    x_name: str,
    names: Sequence[str] = (),
    log_x: bool = False,
) -> str:
    """Draw means as dots, joined along an axis of numbers, with whiskers of one standard error; others are left out.

    Args:
        title: what is drawn, for screen readers
        lines: of one point each at least; means that are not finite are left out
        x_name: what runs along the bottom
        names: of the positions 0, 1, 2, ... where the bottom holds names and no numbers
        log_x: equal steps along the bottom are equal factors; all x must be above zero
    """
    lines = [_finite(line) for line in lines]
    tops = [one.mean + (one.error or 0) for line in lines for one in line.y] or [1.0]
    feet = [one.mean - (one.error or 0) for line in lines for one in line.y] or [0.0]
    along = [at for line in lines for at in line.x] or [1.0]
    span = (-0.5, len(names) - 0.5) if names else roomy(min(along), max(along), 0.06, log=log_x)
    x = bottom_axis(*span, log=log_x and not names)
    y = left_axis(*roomy(min(feet), max(tops), 0.08))
    parts = [grid(y, number), _names(x, y, names, x_name) if names else bottom(x, y, x_name)]
    parts += [_line(line, x, y, joined=not names) for line in lines]
    parts += [_legend(index, line) for index, line in enumerate(lines) if len(lines) > 1]
    ends = "; ".join(f"{line.name} from {said(line.y[0])} to {said(line.y[-1])}" for line in lines if line.y)
    return svg(f"{title} by {x_name}: {ends}", height_of(len(lines)), parts)


def height_of(lines: int) -> int:
    """Return the height of a chart of so many lines, with its legend."""
    return HEIGHT + (LEGEND * lines + 8 if lines > 1 else 0)


def said(spread: Spread, say: Callable[[float], str] | None = None) -> str:
    """Return a mean and its standard error, to the digits that the error leaves certain; the mean alone without one.

    >>> said(Spread(0.51234, 0.0217, 4)), said(Spread(2.0, None, 1)), said(Spread(0.51234, 0.0217, 4), "{:.0%}".format)
    ('0.512 ± 0.022', '2', '51% ± 2%')
    """
    mean, error, _ = spread
    if error is None:
        return (say or number)(mean)
    if say is None:
        digits = max(0, 1 - math.floor(math.log10(error))) if error > 0 else 4
        return f"{mean:,.{digits}f} ± {error:.{digits}f}".replace("-", "−")
    return f"{say(mean)} ± {say(error)}"


def _finite(line: Points) -> Points:
    """Return a line without means that no axis can show."""
    kept = [(at, one) for at, one in zip(line.x, line.y, strict=True) if math.isfinite(one.mean)]
    return line._replace(x=tuple(at for at, _ in kept), y=tuple(one for _, one in kept))


def _line(line: Points, x: Axis, y: Axis, *, joined: bool) -> str:
    parts: list[str] = []
    middles = [(x.pixel(at), y.pixel(one.mean)) for at, one in zip(line.x, line.y, strict=True)]
    if joined and middles:
        path = "L".join(f"{across:.1f} {up:.1f}" for across, up in middles)
        parts.append(f'<path class="line {style(line.colour)}" d="M{path}"/>')
    for (across, up), one in zip(middles, line.y, strict=True):
        if one.error is not None:
            low, high = y.pixel(one.mean - one.error), y.pixel(one.mean + one.error)
            ends = "".join(f"M{across - CAP:.1f} {end:.1f}h{2 * CAP}" for end in (low, high))
            parts.append(f'<path class="whisker {style(line.colour)}" d="M{across:.1f} {low:.1f}V{high:.1f}{ends}"/>')
        tip = f"{line.name}: {said(one)}, {plural(one.runs, 'run')}"
        parts.append(
            f'<circle class="dot {style(line.colour)}" cx="{across:.1f}" cy="{up:.1f}" r="3">'
            f"<title>{escape(tip)}</title></circle>"
        )
    return "".join(parts)


def _names(x: Axis, y: Axis, names: Sequence[str], x_name: str) -> str:
    slot = (x.end - x.start) / len(names)
    every = every_so_many(names, slot)
    if every > 1:  # shortened rather than left out: each dot has its name
        room = max(3, int(slot / LETTER))
        names = [name if len(name) <= room else f"{name[: room - 1]}…" for name in names]
    return name_of_x(x_name) + "".join(text(x.pixel(at), y.start + 15, name, "middle") for at, name in enumerate(names))


def _legend(index: int, line: Points) -> str:
    at = HEIGHT + LEGEND * index + 14
    return f'<path class="line {style(line.colour)}" d="M{LEFT} {at - 4}h18"/>' + text(
        LEFT + 24, at, line.name, "start"
    )
