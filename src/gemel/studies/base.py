"""Study: the runs it asks for, what is read from each, the published numbers beside it and what should be seen.

A file of this folder holds one `STUDY`. Nothing here trains; `runner.py` does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NamedTuple

from gemel.runs import Run
from gemel.studies.checks import Check

Read = Callable[[Run], float | None]
"""a number from a run's folder; None where the run does not have it"""


class Variation(NamedTuple):
    """One row of a study's table: what is set differently there."""

    name: str
    """row and folder: letters, digits, `-`, `_` and `.`"""
    settings: Mapping[str, Any]
    """by dotted key, as on the command line"""
    line: str = ""
    """of the plot, where it has an axis"""
    x: float | None = None
    """place on the plot's axis"""
    group: str = ""
    """of variations of one group the table, the checks and the plot take the best, by `Study.best`"""


class Scale(NamedTuple):
    """The size of a study: what all its runs share, and its variations."""

    settings: Mapping[str, Any]
    variations: Sequence[Variation]


class Column(NamedTuple):
    """A number of each run."""

    name: str
    read: Read
    plotted: bool = True


@dataclass(frozen=True, kw_only=True)
class Study:
    """A named set of runs and its table.

    Args:
        question: what the study asks, one sentence.
        small: minutes on two cores.
        full: the size of the papers, or what comes nearest to it.
        columns: read from each run.
        checks: what the table should show.
        published: which rows of the published results belong beside it; each entry is one call of `published.rows`.
        evaluations: protocols with their options, beyond those of a run's closing pass (knn and cluster).
        best: column whose highest mean chooses the best of a group.
        axis: what runs along the bottom of the plot; empty: the variations by name.
        log_axis: equal steps of the axis are equal factors.
        seeds: of the settings, from 0 on.
    """

    question: str
    small: Scale
    full: Scale
    columns: Sequence[Column]
    checks: Sequence[Check] = ()
    published: Sequence[Mapping[str, Any]] = ()
    evaluations: Sequence[tuple[str, Mapping[str, Any]]] = field(default=())
    best: str = ""
    axis: str = ""
    log_axis: bool = False
    seeds: int = 3


def score(protocol: str, metric: str, **options: Any) -> Read:
    """Read a metric of an evaluation, of the one with these options where there are several."""

    def read(run: Run) -> float | None:
        for result in run.evaluations():
            fits = all(result["settings"].get(key) == value for key, value in options.items())
            if result["protocol"] == protocol and fits and metric in result["metrics"]:
                return float(result["metrics"][metric])
        return None

    return read


def last(column: str) -> Read:
    """Read the last number that metrics.csv has in a column."""

    def read(run: Run) -> float | None:
        table = run.metrics()
        if column not in table.column_names:
            return None
        found = [value for value in table[column].to_pylist() if value is not None and isfinite(value)]
        return float(found[-1]) if found else None

    return read


def classes_used() -> Read:
    """Count the discovered classes that hold at least one image."""

    def read(run: Run) -> float | None:
        table = run.classes()
        return None if table is None else float(len(table.column("class").unique()))

    return read
