"""Study: its runs, the columns read from each, the published numbers beside them, and the checks of the table.

A file of the catalogue holds one `STUDY`; `runner.py` makes its runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from gemel.metrics.clustering import clustering_scores
from gemel.runs.files import read_json
from gemel.runs.run import Run
from gemel.studies.checks import Check

Read = Callable[[Any], float | None]
"""a number from a run's folder; None where the run does not have it"""

Compute = Callable[..., Mapping[str, float]]
"""(seed=..., and a variation's settings) -> numbers by column"""

NUMBERS = "numbers.json"
"""in a variation's folder, what a study computed without a run"""

OWN_SEED = "the run's own seed"
"""an option of an evaluation that stands for it"""

Between = Callable[[Any, Any], float | None]
"""a number from two runs of a variation, by two seeds"""


class Variation(NamedTuple):
    """One row of a study's table: the settings that differ there."""

    name: str
    """row and folder: letters, digits, `-`, `_` and `.`"""
    settings: Mapping[str, Any]
    """by dotted key, as on the command line"""
    line: str = ""
    """of the plot, where it has an axis"""
    x: float | None = None
    """position on the plot's axis"""
    group: str = ""
    """of variations of one group the table, the checks and the plot take the best, by `Study.best`"""
    remark: str = ""
    """what a reader should know of its results; no full stop"""


class Scale(NamedTuple):
    """The size of a study: settings of all its runs, and its variations."""

    settings: Mapping[str, Any]
    variations: Sequence[Variation]


class Computed(NamedTuple):
    """What stands in place of a run in a study that computes its numbers itself."""

    path: Path
    """folder that holds them"""


class Column(NamedTuple):
    """A number of each run, or of each pair of seeds of a variation."""

    name: str
    read: Read | Between
    plotted: bool = True
    of_pairs: bool = False
    """whether `read` takes a pair of seeds"""

    def values(self, runs: Sequence["Run | Computed"]) -> list[float]:
        """Return the numbers of one variation's runs, in their order."""
        found = [self.read(*some) for some in combinations(runs, 2 if self.of_pairs else 1)]
        return [value for value in found if value is not None]


class Curve(NamedTuple):
    """A column of metrics.csv over the epochs, one line for each variation."""

    name: str
    column: str

    def values(self, runs: Sequence[Run]) -> dict[int, list[float]]:
        """Return by epoch each run's mean over its rows."""
        found: dict[int, list[float]] = {}
        for run in runs:
            table = run.metrics()
            if self.column not in table.column_names:
                continue
            rows: dict[int, list[float]] = {}
            for epoch, value in zip(table["epoch"].to_pylist(), table[self.column].to_pylist(), strict=True):
                if value is not None and isfinite(value):
                    rows.setdefault(epoch, []).append(value)
            for epoch, values in rows.items():
                found.setdefault(epoch, []).append(sum(values) / len(values))
        return dict(sorted(found.items()))


@dataclass(frozen=True, kw_only=True)
class Study:
    """A named set of runs and its table.

    Args:
        question: of the study, one sentence.
        small: minutes on two cores.
        full: the size of the papers, or what comes nearest to it.
        columns: read from each run.
        curves: drawn over the epochs beside the columns.
        checks: of the table.
        published: rows of the published results to show beside it; each entry is one call of `published.rows`.
        evaluations: protocols with their options, beyond those of a run's closing pass (knn and cluster); `OWN_SEED`
            stands for the seed of the run that is judged.
        best: column whose highest mean chooses the best of a group.
        axis: of the plot's bottom; empty: the variations by name.
        log_axis: a log scale.
        seeds: number of seeds, from 0 on.
        compute: gives the numbers of a variation in place of a run, from its settings alone; columns read them by
            `computed`.
    """

    question: str
    small: Scale
    full: Scale
    columns: Sequence[Column]
    curves: Sequence[Curve] = ()
    checks: Sequence[Check] = ()
    published: Sequence[Mapping[str, Any]] = ()
    evaluations: Sequence[tuple[str, Mapping[str, Any]]] = field(default=())
    best: str = ""
    axis: str = ""
    log_axis: bool = False
    seeds: int = 3
    compute: Compute | None = None


def score(protocol: str, metric: str, **options: Any) -> Read:
    """Return a reader of an evaluation's metric, of the one with these options where there are several."""

    def read(run: Run) -> float | None:
        return _metric(run.evaluations(), protocol, metric, options)

    return read


def score_of(network: str | Callable[[Run], str], protocol: str, metric: str) -> Read:
    """Return a reader of a metric of another network than the run's own: `pixels`, or `random-SEED`."""

    def read(run: Run) -> float | None:
        name = network if isinstance(network, str) else network(run)
        return _metric(run.evaluations(network=name), protocol, metric, {})

    return read


def _metric(
    results: Sequence[Mapping[str, Any]], protocol: str, metric: str, options: Mapping[str, Any]
) -> float | None:
    for result in results:
        fits = options.items() <= result["settings"].items()
        if result["protocol"] == protocol and fits and metric in result["metrics"]:
            return float(result["metrics"][metric])
    return None


def computed(name: str) -> Read:
    """Return a reader of a number that the study computed itself."""

    def read(found: Computed) -> float | None:
        return read_json(found.path / NUMBERS).get(name)

    return read


def seconds(run: Run) -> float | None:
    """Return how long the steps took, with what happened between them; probes and the closing pass are left out."""
    table = run.metrics()
    steps, rates = table["step"].to_pylist(), table["images_per_second"].to_pylist()
    since = [0, *steps[:-1]]
    images = [(step - before) * run.settings["batch_size"] for before, step in zip(since, steps, strict=True)]
    return sum(count / rate for count, rate in zip(images, rates, strict=True) if rate)


def last(column: str) -> Read:
    """Return a reader of the last finite number in a column of metrics.csv."""

    def read(run: Run) -> float | None:
        table = run.metrics()
        if column not in table.column_names:
            return None
        found = [value for value in table[column].to_pylist() if value is not None and isfinite(value)]
        return float(found[-1]) if found else None

    return read


def classes_used() -> Read:
    """Return a reader of the number of discovered classes that hold at least one image."""

    def read(run: Run) -> float | None:
        table = run.classes()
        return None if table is None else float(len(table.column("class").unique()))

    return read


def same_classes(one: Run, two: Run) -> float | None:
    """Return the AMI of the classes of two runs for the same images: 1 where they agree, about 0 by chance."""
    tables = [run.classes() for run in (one, two)]
    found = [dict(zip(table["path"].to_pylist(), table["class"].to_pylist(), strict=True)) for table in tables if table]
    if len(found) < 2:
        return None
    both = [path for path in found[0] if path in found[1]]
    if not both:
        return None
    return clustering_scores(*([classes[path] for path in both] for classes in found))["ami"]
