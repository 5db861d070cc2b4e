"""Charts of lines, of bars, of a table of counts; inline SVG without a script."""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemel.reports.charts.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LETTER,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Mark,
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
from gemel.reports.formatting import number, percent, plural

MOST_POINTS = 400
"""of a line: a chart of 340 pixels shows no more"""
MOST_STRIPS = 72
"""columns of a chart with a tooltip: 5 pixels each"""
MOST_DOTS = 40
"""a line of so few values shows each as a dot"""
COLOURS = 8
"""of the page; further lines use them again, dashed"""
MOST_LETTERS = 16
"""of the names of columns; tooltips have the whole name"""
MOST_NUMBERED_CELLS = 14
"""columns of a table whose cells have room for numbers"""


class Series(NamedTuple):
    """One line; NaN in `y` is a gap."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    colour: int


def style(colour: int) -> str:
    """Return the page's CSS classes for the `colour`-th line."""
    return f"s{colour % COLOURS + 1}" + (" dashed" if colour >= COLOURS else "")


def thin(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return at most `MOST_POINTS` points: the lowest and the highest of each stretch, so that no spike is lost."""
    if len(x) <= MOST_POINTS:
        return x, y
    keep: set[int] = {0, len(x) - 1}
    # two points for each stretch, one for a gap in it, and the two ends
    for stretch in np.array_split(np.arange(len(x)), (MOST_POINTS - 2) // 3):
        finite = stretch[np.isfinite(y[stretch])]
        if len(finite):
            keep |= {int(finite[np.argmin(y[finite])]), int(finite[np.argmax(y[finite])])}
        if len(finite) < len(stretch):
            keep.add(int(stretch[~np.isfinite(y[stretch])][0]))
    order = sorted(keep)
    return x[order], y[order]


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_name: str,
    span: tuple[float, float],
    log: bool = False,
    fractions: bool = False,
    from_zero: bool = False,
    whole: bool = False,
    levels: Sequence[Mark] = (),
    borders: Sequence[Mark] = (),
) -> str:
    """Draw lines over a common axis.

    Args:
        title: what is drawn, for screen readers (the page prints its own heading)
        series: the lines
        x_name: what the bottom axis shows
        span: its ends, so that charts of one run line up
        log: a log scale; all values must be above zero
        fractions: label the axis in per cent
        from_zero: start the axis at zero
        whole: label whole numbers only
        levels: values with a dashed horizontal line
        borders: positions with a dashed vertical line
    """
    thinned = [line._replace(x=x, y=y) for line in series for x, y in [thin(line.x, line.y)]]
    finite = np.concatenate([line.y[np.isfinite(line.y)] for line in thinned])
    high = max([float(finite.max()), *(mark.value for mark in levels)])
    low = 0.0 if from_zero else min([float(finite.min()), *(mark.value for mark in levels)])
    x = bottom_axis(span[0], roomy(*span, 0)[1])
    # a level needs room for its name above it
    y = left_axis(*roomy(low, high, 0.1 if levels else 0.04, log=log, from_zero=from_zero), log=log)
    parts = [grid(y, _percent_tick if fractions else number, whole=whole)]
    parts.append(bottom(x, y, x_name + (" · log scale" if log else "")))
    parts += [_level(mark, x, y) for mark in levels] + [_border(mark, x, y) for mark in borders]
    parts += [_line(line, x, y) for line in thinned]
    parts += _strips(series, x, x_name, percent if fractions else number)
    return svg(f"{title} by {x_name}: {_summary(series)}", HEIGHT, parts)


def bar_chart(title: str, bars: Sequence[Mark], x_name: str) -> str:
    """Draw a bar for each count, in the given order; names below as far as there is room."""
    y = left_axis(*roomy(0, max(1.0, *(bar.value for bar in bars)), 0.04, from_zero=True))
    slot = (WIDTH - LEFT - RIGHT) / len(bars)
    gap = min(slot * 0.2, 4)
    every = every_so_many([bar.name for bar in bars], slot)
    parts = [grid(y, number, whole=True), name_of_x(x_name)]
    for index, bar in enumerate(bars):
        left, top = LEFT + index * slot, y.pixel(bar.value)
        parts.append(
            f'<g class="hit"><rect class="plain" x="{left:.1f}" y="{TOP}" width="{slot:.2f}" '
            f'height="{y.start - TOP:.1f}"/>'
            f'<rect class="bar s1" x="{left + gap / 2:.1f}" y="{top:.1f}" width="{slot - gap:.2f}" '
            f'height="{y.start - top:.1f}"/><title>{escape(f"{x_name} {bar.name}")}: {number(bar.value)}</title></g>'
        )
        if index % every == 0:
            parts.append(text(left + slot / 2, y.start + 15, bar.name, "middle"))
    sizes = ", ".join(f"{bar.name}: {number(bar.value)}" for bar in bars[:20])
    return svg(f"{title}: {sizes}", HEIGHT, parts)


def heat_map(title: str, rows: Sequence[str], columns: Sequence[str], counts: NDArray[np.int64]) -> str:
    """Draw a table of counts whose cells are the darker, the larger their share of the row."""
    names = [name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…" for name in columns]
    longest = max(len(name) for name in names) * LETTER
    # names that are wider than their columns are rotated, and extend beyond the last column
    left, wide = 44, (WIDTH - 44 - RIGHT) / len(columns)
    rotated = longest + 4 > wide
    if rotated:
        wide = (WIDTH - 44 - RIGHT - 0.5 * longest) / len(columns)
    top, tall = (20 + 0.75 * longest if rotated else 20), min(max(wide, 12), 24)
    every = max(1, math.ceil(12 / wide))
    parts = [
        _head(left + (index + 0.5) * wide, top - 7, name, rotated=rotated)
        for index, name in enumerate(names)
        if index % every == 0
    ]
    parts += [text(left - 6, top + (index + 0.5) * tall + 4, name, "end") for index, name in enumerate(rows)]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, column in np.argwhere(counts).tolist():
        share, count = float(shares[row, column]), int(counts[row, column])
        x, y = left + column * wide, top + row * tall
        parts.append(
            f'<g><rect class="cell" x="{x:.1f}" y="{y:.1f}" width="{wide - 1:.1f}" height="{tall - 1:.1f}" '
            f'fill-opacity="{0.08 + 0.92 * share:.2f}"/>'
            f"<title>class {escape(rows[row])}, label {escape(columns[column])}: "
            f"{plural(count, 'image')}, {percent(share)}</title>"
        )
        if len(columns) <= MOST_NUMBERED_CELLS:
            parts.append(
                text(x + wide / 2, y + tall / 2 + 3.5, f"{count}", "middle", "inverse" if share > 0.5 else "inside")
            )
        parts.append("</g>")
    return svg(title, round(top + len(rows) * tall + 4), parts)


def _head(x: float, y: float, name: str, *, rotated: bool) -> str:
    if not rotated:
        return text(x, y, name, "middle")
    return f'<g transform="rotate(-55 {x:.1f} {y:.1f})">{text(x, y + 3, name, "start")}</g>'


def _summary(series: Sequence[Series]) -> str:
    """Return where each line begins and ends, for screen readers."""
    ends: list[str] = []
    for line in series:
        finite = line.y[np.isfinite(line.y)]
        ends.append(f"{line.name} from {number(finite[0])} to {number(finite[-1])}")
    return "; ".join(ends)


def _percent_tick(fraction: float) -> str:
    """Return a label in per cent, without superfluous digits."""
    return f"{100 * fraction:g} %".replace("-", "−")


def _level(mark: Mark, x: Axis, y: Axis) -> str:
    at = y.pixel(mark.value)
    return f'<path class="mark" d="M{x.start} {at:.1f}H{x.end}"/>' + text(x.end - 2, at - 4, mark.name, "end")


def _border(mark: Mark, x: Axis, y: Axis) -> str:
    """Draw a border with its name above the chart, on the side where there is room."""
    at = x.pixel(mark.value)
    anchor = "start" if at < (x.start + x.end) / 2 else "end"
    return f'<path class="mark" d="M{at:.1f} {y.start}V{y.end - 12}"/>' + text(
        at + (4 if anchor == "start" else -4), y.end - 6, mark.name if anchor == "start" else f"{mark.name} →", anchor
    )


def _line(line: Series, x: Axis, y: Axis) -> str:
    """Draw a line with its gaps; a single value between gaps is a dot, as its line would be invisible."""
    finite = np.isfinite(line.y)
    alone = finite & ~np.append(finite[1:], False) & ~np.append(False, finite[:-1])
    dotted = finite if finite.sum() <= MOST_DOTS else alone
    path: list[str] = []
    dots: list[str] = []
    for index in np.flatnonzero(finite).tolist():
        across, up = f"{x.pixel(line.x[index]):.1f}", f"{y.pixel(line.y[index]):.1f}"
        path.append(f"{'L' if index and finite[index - 1] else 'M'}{across} {up}")
        if dotted[index]:
            dots.append(f'<circle class="dot {style(line.colour)}" cx="{across}" cy="{up}" r="2.4"/>')
    return f'<path class="line {style(line.colour)}" d="{"".join(path)}"/>{"".join(dots)}'


def _strips(series: Sequence[Series], x: Axis, x_name: str, say: Callable[[float], str]) -> list[str]:
    """Return transparent columns over the chart whose tooltips show the values: no script is needed."""
    edges = np.linspace(x.low, x.high, MOST_STRIPS + 1)[1:-1]
    found: dict[int, list[str]] = {}
    positions: dict[int, float] = {}
    for line in series:
        finite = np.isfinite(line.y)
        # a later value of the same column replaces an earlier one
        last = dict(zip(np.searchsorted(edges, line.x[finite]).tolist(), np.flatnonzero(finite).tolist(), strict=True))
        for strip, index in last.items():
            found.setdefault(strip, []).append(f"{line.name}: {say(float(line.y[index]))}")
            positions[strip] = float(line.x[index])
    wide, tall = (x.end - x.start) / MOST_STRIPS, HEIGHT - TOP - BOTTOM
    return [
        f'<rect class="hover" x="{x.start + strip * wide:.1f}" y="{TOP}" width="{wide:.1f}" height="{tall}">'
        f"<title>{escape(chr(10).join([f'{x_name} {number(round(positions[strip], 2))}', *lines]))}</title></rect>"
        for strip, lines in sorted(found.items())
    ]
