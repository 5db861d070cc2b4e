"""Several runs and published results in one table, with a mark at what does not compare."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from gemel.errors import UserError
from gemel.metrics.spread import Spread, spread_of
from gemel.published import Published, everything, form_of
from gemel.reports.agreed import advice
from gemel.reports.charts.curves import Chart, Log, charts, read_log
from gemel.reports.charts.error_bars import Points, said, spread_chart
from gemel.reports.comparability import (
    DENSE_METRICS,
    TRANSFERRED,
    Mark,
    bare_metric,
    marks_of_group,
    marks_of_published,
    printed,
    stands_beside,
)
from gemel.reports.formatting import FRACTIONS, number, plural
from gemel.reports.run_summary import read_or_report, run_names
from gemel.reports.seed_groups import Column, Group, groups_of
from gemel.reports.tables import Table, markdown, page
from gemel.runs.files import write_atomically, write_text
from gemel.runs.output_paths import check_suffix
from gemel.runs.run import Run

MAIN = ("top1", "mean_per_class", "acc", "nmi", "kmeans_acc", "map_area", "ap", "ap50", "mask_ap", "miou")
"""scores that the terminal has room for, and that get a chart, beside all of `TRANSFERRED`; files hold all"""
MOST_ACROSS = 6
"""more scores than this stand below each other in the terminal"""
PER_CENT = (*FRACTIONS, "nmi", "ami", "ari", "map", "average")
"""scores by a part of their name that are shown in per cent, as papers print them"""
MOST_PUBLISHED = 8
"""published rows in the terminal"""
LETTERS = {"data": "D", "protocol": "P", "network": "N", "epochs": "E", "form": "F", "seeds": "S", "unfinished": "U"}
"""of the kinds of marks, where there is no room for words"""
NOTE = (
    "Mean ± standard error over seeds; shares and NMI, AMI, ARI in per cent, as papers print them. "
    "A mark says why a row does not compare with the first one, a published row with the nearest of ours."
)


class Neighbour(NamedTuple):
    """Printed numbers of one network in one table, and what keeps them from being compared."""

    row: Published
    values: dict[Column, float]
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, and the published results that belong beside them.

    Args:
        groups: of runs that differ in their seed alone.
        neighbours: published results, those that compare best first.
        problems: damaged files, which are left out.
        advice: which run to take, in a sentence; empty: nothing tells.
    """

    groups: tuple[Group, ...]
    neighbours: tuple[Neighbour, ...]
    problems: tuple[str, ...] = ()
    advice: str = ""

    @property
    def columns(self) -> list[Column]:
        """Scores of any run: those of a protocol together, those of a method's classes before those of k-means."""
        found = dict.fromkeys(column for group in self.groups for column in group.scores)
        return sorted(found, key=lambda one: (one.protocol, one.options, one.metric.startswith("kmeans_")))

    def marks(self, group: Group) -> list[Mark]:
        """Return what keeps a group from being compared with the first one."""
        return marks_of_group(group, self.groups[0])

    def short_table(self) -> Table:
        """Return the main scores, and a letter for each mark: for the terminal."""
        columns = [column for column in self.columns if _is_main(column)]
        if len(columns) > MOST_ACROSS:
            return self._tall_table(columns)
        heads = ("run", "seeds", *(str(column).replace("_", " ") for column in columns), "mark")
        rows = [
            (group.name, str(len(group.runs)), *(_cell(group, one) for one in columns), _letters(self.marks(group)))
            for group in self.groups
        ]
        shown = [one for one in self.neighbours if any(column in one.values for column in columns)]
        for one in shown[:MOST_PUBLISHED]:
            scores = (f"{one.values[column]:.1f}" if column in one.values else "" for column in columns)
            rows.append((f"printed: {one.row.method}, {one.row.data}", "", *scores, _letters(one.marks)))
        return Table("", heads, tuple(rows), self._note(shown[:MOST_PUBLISHED]))

    def _tall_table(self, columns: Sequence[Column]) -> Table:
        """Return a row for each score and a column for each group; of published rows the nearest to each score."""
        heads = ["score", *(group.name for group in self.groups)]
        nearest = {column: one for one in reversed(self.neighbours) for column in one.values if column in columns}
        rows = [["seeds", *(str(len(group.runs)) for group in self.groups)]]
        rows += [[str(one).replace("_", " "), *(_cell(group, one) for group in self.groups)] for one in columns]
        rows += [["mark", *(_letters(self.marks(group)) for group in self.groups)]]
        if nearest:
            told = [f"{one.values[column]:.1f} {one.row.method} {_letters(one.marks)}".rstrip()
                    if (one := nearest.get(column)) else "" for column in columns]  # fmt: skip
            heads, rows = [*heads, "nearest printed:"], [[*a, b] for a, b in zip(rows, ["", *told, ""], strict=True)]
        shown = [one for one in self.neighbours if any(one is other for other in nearest.values())]
        return Table("", tuple(heads), tuple(tuple(row) for row in rows), self._note(shown))

    def _note(self, shown: Sequence[Neighbour]) -> str:
        """Return what the letters mean, how many published rows are not shown, and which files are damaged."""
        marks = [mark for group in self.groups for mark in self.marks(group)]
        marks += [mark for one in shown for mark in one.marks]
        legend = ", ".join(f"{LETTERS[kind]} {kind}" for kind in dict.fromkeys(mark.kind for mark in marks))
        left = len(self.neighbours) - len(shown)
        more = f" {plural(left, 'published row')} more in a file: --out compared.md" if left else ""
        return NOTE + (f" Marks: {legend}." if legend else "") + more + self._end()

    def _end(self) -> str:
        """Return which run to take, and which files are damaged."""
        left_out = f" Left out: {'; '.join(self.problems)}." if self.problems else ""
        return (f" {self.advice}" if self.advice else "") + left_out

    def table(self) -> Table:
        """Return every score, and the marks in full."""
        columns = self.columns
        heads = ("run", "method", "network", "data", "epochs", "seeds", *(str(one) for one in columns),
                 "not comparable because", "source")  # fmt: skip
        rows = [
            (
                *(group.name, group.method.title, group.network, group.data),
                *(str(group.settings.get("epochs", "")), str(len(group.runs))),
                *(_cell(group, column) for column in columns),
                *(_words(self.marks(group)), ", ".join(run_names([run.path for run in group.runs]))),
            )
            for group in self.groups
        ]
        for row, values, marks in self.neighbours:
            scores = (number(values[column]) if column in values else "" for column in columns)
            epochs = "" if row.epochs is None else str(row.epochs)
            about = ("published", row.method, row.network, row.data, epochs, "")
            rows.append((*about, *scores, _words(marks), f"{row.table}; {row.source}"))
        return Table("Scores", heads, tuple(rows), NOTE + self._end())

    def markdown(self) -> str:
        """Return the whole table in Markdown."""
        table = self.table()
        return f"{markdown(table)}\n\n{table.note}\n"

    def html(self) -> str:
        """Return one page that needs nothing else: a chart of each main score, the table, the curves of training."""
        runs = [(run, group.method) for group in self.groups for run in group.runs]
        names, problems = run_names([run.path for run, _ in runs]), list[str]()
        logs: list[Log] = []
        for name, (run, method) in zip(names, runs, strict=True):
            table = read_or_report(run.metrics, pa.table({}), problems)
            if table.num_rows:
                logs.append(read_log(name, method, table, run.settings))
        drawn = [chart for column in self.columns if _is_main(column) for chart in self._chart(column)]
        facts = [f"{plural(len(runs), 'run')} in {plural(len(self.groups), 'group')}"]
        facts += [f"Left out: {problem}" for problem in problems]
        return page("Runs compared", facts, [self.table()], [*drawn, *(charts(logs) if logs else [])])

    def write(self, out: Path) -> None:
        """Write the comparison in the format that the file's name ends in.

        Raises:
            UserError: another ending, or no such folder.
        """
        check_suffix(out, ".md", ".html", ".csv")
        if out.suffix == ".csv":
            write_atomically(out, self._write_csv)
        else:
            write_text(out, self.html() if out.suffix == ".html" else self.markdown())

    def _chart(self, column: Column) -> list[Chart]:
        having = [group for group in self.groups if column in group.scores]
        if not having:
            return []
        points = [Points(str(column), tuple(range(len(having))), tuple(_spread(one, column) for one in having))]
        drawing = spread_chart(str(column), points, x_name="run", names=[group.name for group in having])
        return [Chart(str(column), "Mean and standard error over seeds.", (), drawing, "")]

    def _write_csv(self, path: Path) -> None:
        """Write a row for each number; ours as measured, published ones as printed."""
        heads = ("run", "method", "network", "data", "epochs", "score", "mean", "standard_error", "runs",
                 "unit", "not_comparable_because", "source")  # fmt: skip
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(heads)
            for group in self.groups:
                about = (group.name, group.method.name, group.network, group.data, group.settings.get("epochs"))
                source = " ".join(str(run.path) for run in group.runs)
                for column in group.scores:
                    mean, error, count = spread_of(group.scores[column])
                    marks = _words(self.marks(group))
                    writer.writerow((*about, column, mean, error, count, "as measured", marks, source))
            for row, values, marks in self.neighbours:
                about = ("published", row.method, row.network, row.data, row.epochs)
                for column, value in values.items():
                    source = f"{row.table}; {row.source}"
                    writer.writerow((*about, column, value, "", "", "as printed", _words(marks), source))


def compare_runs(runs: Sequence[Run], *, published: bool) -> Comparison:
    """Read settings and results of runs; a damaged file is named in the comparison and left out.

    Args:
        runs: one at least.
        published: set beside them the published results of the same scores by the same method or on the same data.

    Raises:
        UserError: no run, or a damaged run.yaml.
    """
    if not runs:
        raise UserError("no run was given; name at least one folder of a run")
    problems: list[str] = []
    groups = tuple(groups_of(runs, problems))
    take = advice(groups, problems)
    return Comparison(groups, tuple(_neighbours(groups)) if published else (), tuple(problems), take)


def _neighbours(groups: Sequence[Group]) -> list[Neighbour]:
    """Return printed numbers of our scores, by our methods or on our data; fewest marks first, then our methods."""
    columns: dict[str, dict[Column, None]] = {}
    for group in groups:
        for column in group.scores:
            columns.setdefault(printed(column, group.protocols[column])[0], {})[column] = None
    found: dict[tuple[object, ...], Neighbour] = {}
    for row in everything():
        metric, note = bare_metric(row)
        for column in columns.get(metric, {}):
            near = [group for group in groups if column in group.scores and stands_beside(row, group, column)]
            if not near:
                continue
            marks = min((marks_of_published(row, group, column) for group in near), key=len)
            key = (row.table, row.method, row.network, row.epochs, row.data, note)
            old = found.get(key, Neighbour(row, {}, ()))
            values, joined = old.values | {column: row.value}, dict.fromkeys([*old.marks, *marks])
            found[key] = Neighbour(row, values, tuple(joined))

    def distance(one: Neighbour) -> tuple[int, bool]:
        foreign = all(form_of(one.row.method, group.method.name) is None for group in groups)
        return len({mark.kind for mark in one.marks}), foreign

    return sorted(found.values(), key=distance)


def _is_main(column: Column) -> bool:
    return column.metric in MAIN or column.protocol in TRANSFERRED


def _spread(group: Group, column: Column) -> Spread:
    """Return mean and error, in per cent where papers print per cent."""
    mean, error, count = spread_of(group.scores[column])
    whole = 100 if _in_per_cent(group, column) else 1
    return Spread(whole * mean, None if error is None else whole * error, count)


def _in_per_cent(group: Group, column: Column) -> bool:
    printed_so = column.protocol in DENSE_METRICS or any(part in column.metric for part in PER_CENT)
    return printed_so and all(abs(one) <= 1 for one in group.scores[column])


def _tenths(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")


def _cell(group: Group, column: Column) -> str:
    if column not in group.scores:
        return ""
    spread = _spread(group, column)
    fewer = f" ({spread.runs})" if spread.runs < len(group.runs) else ""
    return said(spread, _tenths if _in_per_cent(group, column) else None) + fewer


def _letters(marks: Sequence[Mark]) -> str:
    return " ".join(dict.fromkeys(LETTERS[mark.kind] for mark in marks))


def _words(marks: Sequence[Mark]) -> str:
    return "; ".join(mark.words for mark in marks)
