"""Results of a study: table, checks, plot, and the published table beside them."""

import csv
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gemel import published
from gemel.metrics.spread import spread_of
from gemel.reports.charts.curves import Chart
from gemel.reports.charts.error_bars import Points, height_of, said, spread_chart
from gemel.reports.charts.svg import sheet
from gemel.reports.formatting import number, plural
from gemel.reports.run_summary import flat
from gemel.reports.tables import Table, Verdict, markdown, page
from gemel.runs.files import write_text
from gemel.runs.run import Run
from gemel.settings.tree import Layer
from gemel.studies.base import Column, Study, Variation
from gemel.studies.checks import Row, best_of_groups
from gemel.studies.plan import StudyLaunch

NOT_COMPARABLE = "Printed numbers of other data, networks and protocols: for the direction of a trend, not its height."


@dataclass(frozen=True)
class Outcome:
    """A study's results, complete or so far.

    Args:
        name: of the study.
        study: its runs, columns and checks.
        launch: seeds, scale, folders.
        overrides: settings of the user, for all runs.
        rows: one for each variation.
        finished: folders of the runs that were read.
        failed: messages of runs that diverged, by run.
    """

    name: str
    study: Study
    launch: StudyLaunch
    overrides: Layer
    rows: tuple[Row, ...]
    finished: tuple[Path, ...]
    failed: Mapping[str, str]

    @property
    def command(self) -> str:
        """The command that makes this table."""
        words = ["gemel", "study", self.name]
        words += ["--full"] if self.launch.full else []
        words += ["--seeds", str(self.seeds)] if self.launch.seeds else []
        for key, value in flat(self.overrides.values):
            words += [f"--{key.replace('_', '-') if '.' not in key else key}", value]
        return shlex.join(words)

    @property
    def seeds(self) -> int:
        """Runs of each variation."""
        return self.launch.seeds or self.study.seeds

    @property
    def shown(self) -> dict[str, Row]:
        """The table's rows by their names there: of a group the best variation."""
        return best_of_groups(self.rows, self.study.best)

    @property
    def verdicts(self) -> list[Verdict]:
        """The study's checks, answered."""
        rows = [row._replace(name=name) for name, row in self.shown.items()]
        return [Verdict(check.words, *check.judge(rows)) for check in self.study.checks]

    def table(self) -> Table:
        """Return mean ± standard error of each column, one row for each variation or group of them."""
        heads = ((self.study.axis and "run") or "variation", "seeds", *(column.name for column in self.study.columns))
        rows = [
            (
                name if name == row.name else f"{name} ({row.name})",
                str(max(map(len, row.values.values()), default=0)),
                *(self._cell(row, one) for one in heads[2:]),
            )
            for name, row in self.shown.items()
        ]
        note = "Mean ± standard error over seeds."
        if self.study.best:
            note += f" In brackets: the variation of each row with the highest {self.study.best}; the CSV holds all."
        note = " ".join([note, *(f"{one.name}: {one.remark}." for one in self._variations if one.remark)])
        return Table("Results", heads, tuple(rows), note)

    def published(self) -> Table | None:
        """Return the published numbers that the study names, one column for each metric."""
        found = [row for wanted in self.study.published for row in published.rows(**wanted)]
        if not found:
            return None
        metrics = list(dict.fromkeys(row.metric for row in found))
        lines: dict[tuple[str, ...], dict[str, str]] = {}
        for row in found:
            about = (row.method, row.network, "" if row.epochs is None else str(row.epochs), row.data)
            lines.setdefault((*about, f"{row.table}; {row.source}"), {})[row.metric] = number(row.value)
        rows = [(*key[:4], *(cells.get(metric, "") for metric in metrics), key[4]) for key, cells in lines.items()]
        heads = ("method", "network", "epochs", "data", *metrics, "source")
        return Table("Published", heads, tuple(rows), NOT_COMPARABLE)

    def csv(self) -> str:
        """Return a row for each variation and column, with the single values; of a curve a row for each epoch."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        heads = ("study", "scale", "variation", "line", "x", "column", "mean", "standard_error", "seeds", "values")
        writer.writerow(heads)
        for row in self.rows:
            for column, values in row.values.items():
                numbers = spread_of(values) if values else ("", "", 0)
                about = (self.name, self._scale, row.name, row.line, row.x, column)
                writer.writerow((*about, *numbers, " ".join(repr(value) for value in values)))
            for curve, epochs in row.curves.items():
                for epoch, values in epochs.items():
                    about = (self.name, self._scale, row.name, row.name, epoch, f"{curve} by epoch")
                    writer.writerow((*about, *spread_of(values), " ".join(repr(value) for value in values)))
        return file.getvalue()

    def markdown(self) -> str:
        """Return the study on one page of Markdown; the plot is the file beside it."""
        table, printed = self.table(), self.published()
        checks = Table("", ("check", "answer", "why"), tuple((one[0], one[1], one[2]) for one in self.verdicts))
        parts = [f"# Study {self.name}", self.study.question, f"```bash\n{self.command}\n```", *self._facts()]
        parts += [f"![{self.name}]({self.name}.svg)"] if self._drawn() else []
        parts += [f"## {table.title}", markdown(table), table.note]
        parts += ["## Checks", markdown(checks)] if self.study.checks else []
        parts += [f"## {printed.title}", markdown(printed), printed.note] if printed else []
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        """Return the same as one HTML page that needs nothing else."""
        charts = [Chart(title, "Mean and standard error over seeds.", (), drawn, "") for title, drawn in self._drawn()]
        printed = self.published()
        facts = [self.study.question, self.command, *self._facts()]
        tables = [self.table(), *([printed] if printed else [])]
        return page(f"Study {self.name}", facts, tables, charts, self.verdicts)

    def write(self, out: Path, tables: Path) -> None:
        """Write NAME.html into one folder, NAME.md, NAME.csv and NAME.svg into the other."""
        write_text(out / f"{self.name}.html", self.html())
        write_text(tables / f"{self.name}.md", self.markdown())
        write_text(tables / f"{self.name}.csv", self.csv())
        drawn = self._drawn()
        if drawn:
            lines = max(len(self._lines()), len(self.rows) if self.study.curves else 0)
            write_text(tables / f"{self.name}.svg", sheet(drawn, height_of(lines), across=3))

    @property
    def _scale(self) -> str:
        return "full" if self.launch.full else "small"

    @property
    def _variations(self) -> Sequence[Variation]:
        return (self.study.full if self.launch.full else self.study.small).variations

    def _facts(self) -> list[str]:
        environments = [Run(folder).environment for folder in self.finished if self.study.compute is None]
        planned = len(self._variations) * self.seeds
        facts = [f"{self._scale.capitalize()} scale, {plural(self.seeds, 'seed')} of each."]
        if len(self.finished) < planned:
            facts.append(f"Not complete: {len(self.finished)} of {plural(planned, 'run')} so far.")
        facts += [f"{run} diverged: {reason}." for run, reason in self.failed.items()]
        if environments:
            facts.append(f"Device: {environments[0].get('device')}, {environments[0].get('cores')} cores.")
        return facts

    def _cell(self, row: Row, column: str) -> str:
        values = row.values[column]
        return said(spread_of(values)) if values else ""

    def _lines(self) -> list[str]:
        return list(dict.fromkeys(row.line for row in self.rows)) if self.study.axis else [""]

    def _drawn(self) -> list[tuple[str, str]]:
        """Return title and drawing of each column and curve that was measured."""
        found = [(column.name, self._chart(column)) for column in self.study.columns if column.plotted]
        found += [(f"{curve.name} by epoch", self._curves(curve.name)) for curve in self.study.curves]
        return [(title, drawing) for title, drawing in found if drawing]

    def _curves(self, name: str) -> str:
        lines = [
            Points(row.name, tuple(row.curves[name]), tuple(map(spread_of, row.curves[name].values())), colour)
            for colour, row in enumerate(self.rows)
            if row.curves.get(name)
        ]
        return spread_chart(name, lines, x_name="epoch") if lines else ""

    def _chart(self, column: Column) -> str:
        measured = {name: row for name, row in self.shown.items() if row.values[column.name]}
        if not measured:
            return ""
        title, spreads = column.name, [spread_of(row.values[column.name]) for row in measured.values()]
        if not self.study.axis:
            points = [Points(title, tuple(range(len(measured))), tuple(spreads))]
            return spread_chart(title, points, x_name="variation", names=list(measured))
        lines: list[Points] = []
        for colour, line in enumerate(self._lines()):  # a line keeps its colour in all charts
            pairs = zip(measured.values(), spreads, strict=True)
            along = [(row.x or 0.0, one) for row, one in pairs if row.line == line]
            if along:
                x, y = zip(*sorted(along), strict=True)
                lines.append(Points(line, x, y, colour))
        return spread_chart(title, lines, x_name=self.study.axis, log_x=self.study.log_axis)
