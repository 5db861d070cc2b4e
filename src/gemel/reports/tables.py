"""Tables in the terminal, as Markdown, and on a page of their own."""

from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

from gemel.reports.charts.curves import Chart
from gemel.reports.jinja import rendered

SIGNS = {"pass": "good", "fail": "bad"}
"""colour of a verdict; any other word is a warning"""


class Table(NamedTuple):
    """Heads of the columns, and rows of as many cells."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class Verdict(NamedTuple):
    """A question, the answer in one word, and the reason."""

    question: str
    word: str
    reason: str


def markdown(table: Table) -> str:
    """Return a table in Markdown; a vertical bar within a cell is escaped.

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
    """Print a table; where it is wider than the terminal, in blocks of columns, each beside the names."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text

    console = Console(highlight=False)
    for title, columns in zip(_titles(table.title), _blocks(table, console.width), strict=False):
        drawn = Drawn(box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0))
        drawn.add_column(Text(table.heads[0]), overflow="fold")
        for column in columns:
            drawn.add_column(Text(table.heads[column].replace(" ", "\n")), no_wrap=True)  # names wrap, numbers do not
        for row in table.rows:
            drawn.add_row(*(Text(row[column]) for column in (0, *columns)))  # Text: names are no markup
        console.print(drawn)
    console.print(Text(table.note))


def _titles(title: str) -> Iterator[str | None]:
    """Yield the title for the first block alone."""
    yield title or None
    yield from repeat(None)


def _blocks(table: Table, width: int) -> list[list[int]]:
    """Return the columns after the first in blocks: as many side by side as there is room for, at least one."""

    def wide(column: int) -> int:
        return 2 + max(len(one) for one in (*table.heads[column].split(), *(row[column] for row in table.rows), ""))

    names = min(wide(0), width // 2) + 2  # longer names wrap; two are the table's edges
    blocks: list[list[int]] = [[]]
    used = names
    for column in range(1, len(table.heads)):
        if blocks[-1] and used + wide(column) > width:
            blocks.append([])
            used = names
        blocks[-1].append(column)
        used += wide(column)
    return blocks


def page(
    title: str,
    facts: Sequence[str],
    tables: Sequence[Table],
    charts: Sequence[Chart],
    verdicts: Sequence[Verdict] = (),
) -> str:
    """Return one HTML page that needs nothing else.

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
