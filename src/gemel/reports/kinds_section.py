"""How many kinds there are: the number that was found, and how well other numbers of classes divide neighbours."""

from typing import NamedTuple

import numpy as np

from gemel.errors import UserError
from gemel.reports.charts.curves import Chart
from gemel.reports.charts.svg import Mark
from gemel.reports.charts.svg_charts import Series, line_chart
from gemel.runs.run import KINDS, Run


class KindsSection(NamedTuple):
    """What was found, in words and as a curve."""

    about: str
    curve: Chart


def kinds_section(run: Run) -> KindsSection | None:
    """Return what evaluations/kinds.json holds; None where there is no such file.

    Raises:
        UserError: the file is damaged.
    """
    found = run.kinds()
    if not found:
        return None
    try:
        number, low, high, points = found["number"], found["low"], found["high"], found["curve"]
        sizes, values = (np.asarray(column, np.float64) for column in zip(*points, strict=True))
        as_good = f", and {low} to {high} would do as well" if low < high else ""
        doubt = "" if found["is_clear"] else " Noise is divided nearly as well: these may be images of one kind."
        about = (
            f"The number of classes was not given. {number} divide the graph of neighbours best{as_good}: neighbours "
            f"share a class, and classes are many.{doubt} Take another number with --classes."
        )
        title = "Modularity by number of classes"
        drawing = line_chart(
            title,
            [Series(title, sizes, values, 0)],
            x_name="classes",
            span=(float(sizes[0]), max(float(sizes[-1]), float(sizes[0]) + 1)),
            borders=[Mark(float(number), str(number))],
        )
        return KindsSection(about, Chart(title, "Of the best division of a sample; higher is better.", (), drawing, ""))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run.path / KINDS} is damaged: {error!r}; delete it") from error
