"""A table of words, in the terminal, as Markdown and as a page of its own."""

from collections.abc import Sequence
from typing import NamedTuple

from gemel.reports.curves import Chart
from gemel.reports.templates import rendered

SIGNS = {"pass": "good", "fail": "bad"}
"""Colour of a verdict; any other word is a warning."""


class Table(NamedTuple):
    """Heads of the columns, and rows of as many cells."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class Verdict(NamedTuple):
    """What was asked, the answer in a word, and why."""

    question: str
    word: str
    reason: str


def markdown(table: Table) -> str:
    """Write a table in Markdown; a bar within a cell is written as its code.

    >>> print(markdown(Table("", ("run", "score"), (("one", "0.9"),))))
    | run | score |
    |---|---|
    | one | 0.9 |
    """
    heads, *rows = (
        [cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in (table.heads, *table.rows)
    )
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(heads)}", *lines[1:]])


def show(table: Table) -> None:
    """Print a table in the terminal, as wide as it is."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text

    drawn = Drawn(box=box.SIMPLE_HEAD, title=table.title or None, title_justify="left", padding=(0, 1, 0, 0))
    drawn.add_column(Text(table.heads[0]), overflow="fold")
    for head in table.heads[1:]:
        drawn.add_column(Text(head.replace(" ", "\n")), no_wrap=True)  # names wrap, numbers do not
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))  # a name in square brackets is no markup
    console = Console(highlight=False)
    console.print(drawn)
    console.print(Text(table.note))


def page(
    title: str,
    facts: Sequence[str],
    tables: Sequence[Table],
    charts: Sequence[Chart],
    verdicts: Sequence[Verdict] = (),
) -> str:
    """Make one HTML file that needs nothing else.

    Args:
        title: its heading
        facts: lines below it
        tables: the first above the charts, the others below; one at least
        charts: with their drawings
        verdicts: of checks
    """
    return rendered(
        "tables.html.j2",
        title=title,
        facts=facts,
        tables=tables,
        charts=charts,
        verdicts=[(one, SIGNS.get(one.word, "warning")) for one in verdicts],
    )
