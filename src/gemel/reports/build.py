"""Build the page of one run, or of several side by side."""

from collections.abc import Sequence
from pathlib import Path

from gemel.errors import UserError
from gemel.reports.charts.curves import charts
from gemel.reports.charts.svg_charts import style
from gemel.reports.jinja import rendered
from gemel.reports.run_summary import differences, figure_table, run_names, story
from gemel.runs.files import write_text
from gemel.runs.run import UNFINISHED, Run

CHARTS_AT_ONCE = 6
"""further curves are folded: most users look for the classes before the learning rate"""
CLASSES_AT_ONCE = 24
CLASSES_LISTED = 1000
"""rows of the table of classes without pictures"""


def build_report(runs: Sequence[Run], out: Path | None = None) -> Path:
    """Write one HTML file that needs nothing else: no network, no script, no other file.

    Of a run that has not ended the page says how far it is, and loads itself again now and then.

    Args:
        runs: one run is shown in full; several are compared, each in a fold
        out: the file; the first run's report.html, if left out

    Returns:
        The file's path.

    Raises:
        UserError: there is no run to report on, or the file can't be written.
    """
    if not runs:
        raise UserError("no run was given; name at least one folder of a run")
    path = runs[0].report_path if out is None else Path(out)
    page = _page(runs)
    try:
        write_text(path, page)
    except OSError as error:
        raise UserError(f"the report {path} can't be written: {error}; name another file") from error
    return path


def _page(runs: Sequence[Run]) -> str:
    names = run_names([run.path for run in runs])
    stories = [story(run, name, index) for index, (run, name) in enumerate(zip(runs, names, strict=True))]
    heads, rows = figure_table(stories)
    return rendered(
        "page.html.j2",
        stories=stories,
        head=UNFINISHED if any(each.live for each in stories) else "<!doctype html>",
        charts=charts([each.log for each in stories]),
        heads=heads,
        rows=rows,
        differences=differences(stories),
        style=style,
        charts_at_once=CHARTS_AT_ONCE,
        classes_at_once=CLASSES_AT_ONCE,
        classes_listed=CLASSES_LISTED,
    )
