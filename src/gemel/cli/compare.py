"""gemel compare."""

from pathlib import Path
from typing import Annotated

import typer

from gemel.runs.output_paths import check_suffix


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of runs")],
    published: Annotated[bool, typer.Option("--published", help="set the published results beside them")] = False,
    out: Annotated[Path | None, typer.Option(help="F.md, F.html or F.csv: every score, every mark in full")] = None,
) -> None:
    """Set runs side by side in one table: seeds grouped, and marked what does not compare."""
    if out is not None:
        check_suffix(out, ".md", ".html", ".csv")
    import gemel
    from gemel.reports.tables import show

    comparison = gemel.compare(list(runs), published=published)
    show(comparison.short_table())
    if out is not None:
        comparison.write(out)
        print(f"table: {out}")
