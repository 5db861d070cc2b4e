"""The figure of a method as SVG, from a few words: rows of boxes from a view to the loss."""

from collections.abc import Iterator
from html import escape
from typing import Any

ROW, BOX, GAP, HIGH = 76, 104, 26, 40
LEFT = 112
"""where the views begin"""


def figure(facts: dict[str, Any]) -> str:
    """Return an inline drawing.

    Args:
        facts: `rows`, each with `view`, `boxes`, `out` and `kind` (learned, average, stopped or frozen); `loss`, the
            lines of its box; `beside`, what else the loss is given, optional; `shared`, whether rows share weights.
    """
    rows = facts["rows"]
    most = max(len(row["boxes"]) for row in rows)
    loss_x = LEFT + (most + 1) * (BOX + GAP) + 44
    height = ROW * len(rows) + (58 if facts.get("beside") else 0) + 8
    middle = ROW * len(rows) / 2
    parts = [_box(4, middle - HIGH / 2, 80, "image", "plain")]
    for number, row in enumerate(rows):
        parts += _row(row, number * ROW + (ROW - HIGH) / 2, middle, loss_x)
    if facts.get("shared"):
        for number in range(most):
            x = LEFT + (number + 1) * (BOX + GAP) + BOX / 2
            top, bottom = (ROW + HIGH) / 2, ROW + (ROW - HIGH) / 2
            parts.append(f'<line class="same" x1="{x}" y1="{top}" x2="{x}" y2="{bottom}"/>')
        parts.append(_text(LEFT + BOX + GAP + BOX / 2 + 8, ROW + 4, "same weights", "small"))
    tall = max(HIGH, 22 * len(facts["loss"]) + 14)
    parts.append(_lines(loss_x, middle - tall / 2, 148, tall, facts["loss"], "loss"))
    if facts.get("beside"):
        y = ROW * len(rows) + 8
        wide = 9 * len(facts["beside"]) + 24
        x = loss_x + 148 - wide
        parts.append(_box(x, y, wide, facts["beside"], "plain"))
        parts.append(_arrow(loss_x + 74, y, loss_x + 74, middle + tall / 2))
    width = loss_x + 152
    label = escape(f"{' and '.join(str(row['view']) for row in rows)} to the loss: {', '.join(facts['loss'])}")
    return (
        f'<figure class="method"><svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 8 4 0 8z"/></marker></defs>{"".join(parts)}</svg></figure>'
    )


def _row(row: dict[str, Any], y: float, middle: float, loss_x: float) -> Iterator[str]:
    kind, centre = row.get("kind", "learned"), y + HIGH / 2
    yield _arrow(84, middle, LEFT, centre)
    yield _box(LEFT, y, BOX, row["view"], "plain")
    x = LEFT + BOX
    for box in row["boxes"]:
        yield _arrow(x, centre, x + GAP, centre)
        yield _box(x + GAP, y, BOX, box, "average" if kind == "average" else "learned")
        x += GAP + BOX
    yield _arrow(x, centre, loss_x, middle + (centre - middle) * 0.3)
    above = centre <= middle  # else the arrow would run through it
    yield _text(x + 22, centre - 8 if above else centre + 20, row["out"], "out")
    if kind in ("average", "stopped"):
        yield f'<path class="cut" d="M{x + 7} {centre - 7}v14m4 -14v14"/>'
    words = {"average": "moving average", "stopped": "no gradient"}.get(kind)
    if words:
        yield _text(LEFT + BOX + GAP + BOX / 2, y + HIGH + 14, words, "small middle")


def _box(x: float, y: float, wide: float, text: str, kind: str) -> str:
    return _lines(x, y, wide, HIGH, [text], kind)


def _lines(x: float, y: float, wide: float, tall: float, lines: list[str], kind: str) -> str:
    first = y + tall / 2 - 11 * (len(lines) - 1) + 5
    shown = "".join(_text(x + wide / 2, first + 22 * number, line, "middle") for number, line in enumerate(lines))
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{wide}" height="{tall}" rx="6"/>{shown}'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(str(text))}</text>'


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line class="arrow" x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}" marker-end="url(#tip)"/>'
