"""gemel compare and gemel report."""

from pathlib import Path


def compare(runs: list[str], *, published: bool = False, out: str | None = None) -> None:
    """Compare runs in one table: seeds grouped, and marked what is not comparable.

    Args:
        runs: folders of runs
        published: show the published results beside them
        out: F.md, F.html or F.csv: every score, every mark in full
    """
    import gemel
    from gemel.reports.tables import show

    comparison = gemel.compare(runs, published=published)
    show(comparison.short_table())
    if out is not None:
        comparison.write(Path(out))
        print(f"table: {out}")


def report(runs: list[str], *, out: str | None = None, watch: bool = False) -> None:
    """Write one self-contained HTML page about one or several runs.

    Args:
        runs: folders of runs
        out: the file; left out: report.html in the first run's folder
        watch: write it again while the one run is trained by another command; Ctrl-C ends it
    """
    import gemel

    print(gemel.report(runs, out, watch=watch, quiet=not watch))
