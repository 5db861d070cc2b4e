"""The charts of metrics.csv: which columns share one, how to read it, and where its axis begins."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gemel.reports.charts.svg import Mark
from gemel.reports.charts.svg_charts import Series, line_chart, style
from gemel.reports.formatting import number, percent, plural, sentence, words
from gemel.reports.method_facts import MethodFacts

POSITION = ("stage", "epoch", "step", "progress")
"""columns that say where a row belongs; the others are measurements"""
LIMITS = {"classes_used": "classes", "rankme": "rankme_limit"}
"""columns with the largest value that another can take; drawn with it"""
LOG_FROM = 50.0
"""positive values that span more than this factor are drawn on a log scale, and the axis says so"""
UNDRAWN = {*POSITION, *LIMITS.values(), "probe_images", "pairs"}
FAR = 2.5
"""a limit farther than this many times the highest value is not drawn"""


class Log(NamedTuple):
    """A run's metrics.csv as numbers; what was not measured, or is not finite, is NaN."""

    name: str
    method: MethodFacts
    columns: Mapping[str, NDArray[np.float64]]
    x: NDArray[np.float64]
    x_name: str
    stages: tuple[Mark, ...]
    """where each later stage begins"""
    classes: int | None
    """how many classes the method may use"""


class Group(NamedTuple):
    """Columns that one chart shows together."""

    title: str
    reading: str
    columns: tuple[str, ...]
    fractions: bool = False
    from_zero: bool = False
    whole: bool = False
    log: bool = False
    """take a log scale where the values span a large factor"""
    private: bool = False
    """means something within one method only, so it comes last where runs are compared"""


class Line(NamedTuple):
    """A line of the legend."""

    name: str
    """empty if the chart's title says it all"""
    last: str
    style: str


class Chart(NamedTuple):
    """A chart with what stands around it."""

    title: str
    reading: str
    legend: tuple[Line, ...]
    svg: str
    note: str


class Curve(NamedTuple):
    """A column of a run, to be drawn as a line."""

    name: str
    log: Log
    column: str
    colour: int


LOSS = Group("Loss", "What training minimises. Losses of different methods do not compare.", ("loss",), log=True)

GROUPS = (
    Group("Scores against the labels", "Higher is better. The labels were only used to measure, never to train.",
          ("knn", "acc", "nmi"), fractions=True),
    Group("Classes in use", "Classes that hold at least one image, and their effective number: how many classes of "
          "equal size have the same entropy. Falling towards 1 is a collapse.", ("classes_used", "class_entropy"),
          from_zero=True, whole=True),
    Group("Classes per image", "Effective number of classes that share one image's probability: 1 where it is assigned "
          "clearly, all of them where every class is equally likely.", ("classes_per_image",), from_zero=True),
    Group("Agreement of views", "Share of the images whose two views are each other's nearest neighbours, and of those "
          "whose two views fall into one class.", ("agreement", "class_agreement"), fractions=True),
    Group("Effective rank", "Directions in which the embeddings vary. Falling towards 1 is a collapse.",
          ("rankme",), from_zero=True),
    Group("Spread of the embeddings", "Near 1 where they point in all directions; towards 0 all images look the same "
          "to the network.", ("embedding_std",), from_zero=True),
    Group("Learning rate", "The optimiser's rate at each step.", ("lr",), from_zero=True),
    Group("Speed", "Images trained on in a second.", ("images_per_second",), from_zero=True),
    Group("Waiting for views", "Share of the time in which the training waited for its next batch. Where it is high, "
          "more workers help, or smaller images.", ("data_wait",), fractions=True),
)  # fmt: skip


def read_log(name: str, method: MethodFacts, table: pa.Table, settings: Mapping[str, Any]) -> Log:
    """Return a run's metrics as numbers over a common axis of epochs (of steps, where there is no epoch)."""
    numeric = {
        column: _floats(table[column].to_pylist()) for column in table.column_names if _is_number(table[column].type)
    }
    stage = table["stage"].to_pylist() if "stage" in table.column_names else [""] * table.num_rows
    starts = [row for row in range(1, table.num_rows) if stage[row] != stage[row - 1]]
    x_name = "epoch" if "epoch" in numeric else "step" if "step" in numeric else "row"
    x = _axis(numeric, x_name, [0, *starts, table.num_rows])
    marks = tuple(Mark(float(x[row]), words(str(stage[row]))) for row in starts)
    classes = numeric.get("classes", np.empty(0))
    classes = classes[np.isfinite(classes)]
    count = int(classes[-1]) if len(classes) else _class_count(settings)
    return Log(name, method, numeric, x, x_name, marks, count)


def _class_count(settings: Mapping[str, Any]) -> int | None:
    """Return how many classes the run's method was given, if it has classes."""
    method = settings.get("method")
    count = settings.get("classes") or (method.get("classes") if isinstance(method, Mapping) else None)
    return count if isinstance(count, int) else None


def charts(logs: Sequence[Log]) -> list[Chart]:
    """Draw everything that was measured: of one run the columns of a group together, of several runs one column."""
    measured = {column for log in logs for column in log.columns if column not in UNDRAWN and _has_values(log, column)}
    terms, *more = _groups_of_terms(logs, measured)
    groups = [LOSS, terms, *GROUPS, *more]
    known = {column for group in groups for column in group.columns}
    others = [Group(sentence(words(column)), "", (column,), log=True) for column in _in_order(logs, measured - known)]
    drawn: list[tuple[Group, list[Curve]]] = []
    for group in (*groups, *others):
        columns = [column for column in group.columns if column in measured]
        if columns and len(logs) == 1:
            drawn.append((group, [Curve(words(name), logs[0], name, colour) for colour, name in enumerate(columns)]))
        elif columns:
            drawn += [(_of_column(group, column), _of_runs(logs, column)) for column in columns]
    if len(logs) > 1:
        drawn.sort(key=lambda pair: (pair[0].private or _is_private(pair[0], logs), -len(pair[1])))
    return [_chart(group, curves, compared=len(logs) > 1) for group, curves in drawn]


def _groups_of_terms(logs: Sequence[Log], measured: set[str]) -> list[Group]:
    """Group what the methods log beside the loss: terms whose names begin with the same word share a chart."""
    readings = {name: reading for log in logs for name, reading in log.method.terms.items() if name in measured}
    first = [name.partition("_")[0] for name in readings]
    kinds: dict[str, list[str]] = {"": []}
    for name, word in zip(readings, first, strict=True):
        kinds.setdefault(word if "_" in name and first.count(word) > 1 else "", []).append(name)
    return [
        Group(
            sentence(words(kind)) if kind else "Terms of the loss",
            " ".join(f"{sentence(words(name))}: {readings[name].rstrip('.')}." for name in names),
            tuple(names),
            log=True,
            private=True,
        )
        for kind, names in kinds.items()
    ]


def _is_private(group: Group, logs: Sequence[Log]) -> bool:
    """Return whether the runs have different losses, which no chart can compare."""
    return group.columns == ("loss",) and len({log.method.name for log in logs}) > 1


def _of_column(group: Group, column: str) -> Group:
    """Return a group of one column, for a chart of several runs."""
    title = group.title if len(group.columns) == 1 else f"{group.title}: {words(column)}"
    return group._replace(title=title, columns=(column,))


def _of_runs(logs: Sequence[Log], column: str) -> list[Curve]:
    """Return one column of each run that has it; a run keeps its colour in all charts."""
    return [Curve(log.name, log, column, colour) for colour, log in enumerate(logs) if _has_values(log, column)]


def _in_order(logs: Sequence[Log], columns: set[str]) -> Iterable[str]:
    """Return columns in the order of the files."""
    return dict.fromkeys(column for log in logs for column in log.columns if column in columns)


def _chart(group: Group, curves: Sequence[Curve], *, compared: bool) -> Chart:
    series = [_series(curve) for curve in curves]
    logs = list({log.name: log for _, log, _, _ in curves}.values())
    values = np.concatenate([line.y[np.isfinite(line.y)] for line in series])
    # scores above 1 are in another unit: no per cent then
    fractions = bool(group.fractions and values.min() >= 0 and values.max() <= 1)
    drawing = line_chart(
        group.title,
        series,
        x_name=logs[0].x_name,
        span=(min(float(log.x[0]) for log in logs), max(_end(log) for log in logs)),
        log=bool(group.log and values.min() > 0 and values.max() / values.min() > LOG_FROM),
        fractions=fractions,
        from_zero=group.from_zero and bool(values.min() >= 0),
        whole=group.whole,
        levels=_levels(group, logs),
        borders=() if compared else logs[0].stages,
    )
    say = percent if fractions else number
    legend = tuple(
        Line(
            line.name if compared or len(series) > 1 else "",
            say(float(line.y[np.isfinite(line.y)][-1])),
            style(line.colour),
        )
        for line in series
    )
    gaps = sum(int((~np.isfinite(line.y)).sum()) for line in series)
    note = f"{plural(gaps, 'row')} without a number: a gap in the line." if gaps else ""
    return Chart(group.title, group.reading, legend, drawing, note)


def _end(log: Log) -> float:
    """Return the end of the axis: that of the last epoch, if the last row stands just before it."""
    last = float(log.x[-1])
    return math.ceil(last) if math.ceil(last) <= 1.05 * last else last


def _levels(group: Group, logs: Sequence[Log]) -> list[Mark]:
    """Return the largest possible value where there is one and the runs share it."""
    counts = {log.classes for log in logs}
    count = counts.pop() if len(counts) == 1 else None
    if count and "classes_used" in group.columns:
        return [Mark(count, f"all {count}")]
    limits = {float(np.nanmax(log.columns[LIMITS["rankme"]])) for log in logs if _has_values(log, LIMITS["rankme"])}
    if "rankme" in group.columns and len(limits) == 1:
        limit = limits.pop()
        # A limit far away would press the curve flat.
        if limit <= FAR * max(float(np.nanmax(log.columns["rankme"])) for log in logs):
            return [Mark(limit, f"at most {limit:.0f}")]
    return []


def _series(curve: Curve) -> Series:
    """Return a column as a line; one that is measured on most rows has gaps, one measured now and then has none."""
    x, y = curve.log.x, curve.log.columns[curve.column]
    finite = np.isfinite(y)
    if finite.mean() < 0.5:
        x, y = x[finite], y[finite]
    return Series(curve.name, x, y, curve.colour)


def _has_values(log: Log, column: str) -> bool:
    return column in log.columns and bool(np.isfinite(log.columns[column]).any())


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _floats(values: Iterable[float | None]) -> NDArray[np.float64]:
    """Return values as floats, NaN for what no axis can show."""
    found = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    found[~np.isfinite(found)] = math.nan
    return found


def _axis(columns: Mapping[str, NDArray[np.float64]], name: str, bounds: Sequence[int]) -> NDArray[np.float64]:
    """Return each row's position: by epochs and the steps between them, stage after stage; never backwards."""
    if name == "row":
        return np.arange(bounds[-1], dtype=np.float64)
    x = np.nan_to_num(columns[name].copy())
    for begin, end in pairwise(bounds):
        if name == "epoch" and "step" in columns and end > begin:
            x[begin:end] = _parts_of_epochs(x[begin:end], np.nan_to_num(columns["step"][begin:end]))
        # a later stage may count its epochs or steps anew: it continues where the one before ended
        if 0 < begin < end and x[begin] < x[begin - 1]:
            x[begin:end] += x[begin - 1] - x[begin] + (1 if name == "step" else 0)
    return x


def _parts_of_epochs(epochs: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spread the rows of an epoch over it, by the average number of steps of an epoch."""
    numbers, first = np.unique(epochs, return_index=True)
    if len(numbers) > 1:
        steps_each = (steps[first[-1]] - steps[first[0]]) / (numbers[-1] - numbers[0])
    else:
        steps_each = steps[-1] - steps[0] + 1
    return epochs + np.clip((steps - steps[first][np.searchsorted(numbers, epochs)]) / max(steps_each, 1), 0, 0.999)
