"""What happens beside the steps: rows of metrics.csv, probes, unreadable images, progress."""

import time
from collections.abc import Mapping

from torch import Tensor

from gemel.data.listing import printable
from gemel.distributed import any_of, merged, rank
from gemel.engine.progress import Display, Say
from gemel.errors import UserError
from gemel.metrics.health import health
from gemel.runs.metrics_log import MetricsLog
from gemel.runs.run import Run
from gemel.training.probes import Probe
from gemel.training.task import Pretraining
from gemel.training.trackers import Trackers

PROBES = 12
"""probes in a run, about"""

ROWS = 400
"""rows of metrics.csv in a run, about, at most"""

_CERTAIN = ("loss_not_finite", "diverged", "uniform_classes")
"""findings that need no second probe; of uniform classes two were looked at already"""

WAITS = 0.1
"""share of the time spent waiting for views from which it is shown: more --workers may help"""


class Rows:
    """At which steps a row is written, and at which a probe looks.

    Args:
        task: counts its steps.
    """

    def __init__(self, task: Pretraining) -> None:
        self._steps = task.steps
        self._every = -(-task.steps // ROWS)
        self._probe_every = max(task.plan.steps_per_epoch, task.steps // PROBES)

    def are_due(self, step: int) -> bool:
        """Return whether a row is written after a step of the stage, counted from 1."""
        return step in (1, self._steps) or step % self._every == 0 or self.probe_is_due(step)

    def probe_is_due(self, step: int) -> bool:
        """Return whether the row has the columns of a probe."""
        return step == self._steps or step % self._probe_every == 0


class Recorder:
    """Writes rows of metrics.csv, with a probe's columns now and then.

    Args:
        run: where to.
        task: what is trained.
        rows: at which steps.
        trackers: take the rows too.
        say: is told, once, when the probes find that the run has failed.

    Attributes:
        last: the newest value of each column.
        probe: what the columns of probes come from.
    """

    def __init__(self, run: Run, task: Pretraining, rows: Rows, *, trackers: Trackers, say: Say) -> None:
        self.run, self.task, self.rows, self.trackers, self.say = run, task, rows, trackers, say
        self.last: dict[str, float | int | str] = {}
        self._table = MetricsLog(run.metrics_path, until=task.step)
        self.probe = Probe(task.plan, task.normalise)
        self._alarmed, self._suspected = False, set[str]()
        self._since = self._clock()

    def __call__(self, terms: Mapping[str, Tensor]) -> bool:
        """Write the row of the step that has just ended, if one is due."""
        task, step = self.task, self.task.done
        if not self.rows.are_due(step):
            return False
        row: dict[str, float | int | str] = {
            "stage": task.stage.name,
            "epoch": (task.step - 1) // task.plan.steps_per_epoch,
            "step": task.step,
            "progress": step / task.steps,
            **{name: float(value) for name, value in terms.items()},
            "lr": task.rate,
            **self._speed(),
        }
        if self.rows.probe_is_due(step):
            row |= self.probe.measure(task.method)
            self._since = self._clock()  # a probe's time is not training's
        self.last = {**self.last, **row}
        self._table.append(row)
        if self.rows.probe_is_due(step) and not self._alarmed and self.run.metrics_path.is_file():
            self._alarm()
        self.trackers.log(row, task.step)
        return False

    def _alarm(self) -> None:
        """Report that the run has failed while there is time to stop it.

        What one probe alone finds may be of batch norms that have seen few steps, as a network's that begins anew.
        """
        found = [one for one in health(self.run.metrics().to_pydict(), self.task.method.advice) if one.level == "bad"]
        for finding in found:
            if finding.kind in {*_CERTAIN, *self._suspected}:
                self._alarmed = True
                self.say(f"warning at step {self.task.step}: {finding.message}; to try: {finding.advice}")
        self._suspected = {one.kind for one in found}

    def _speed(self) -> dict[str, float]:
        """Return images a second, and the share of the time that was spent waiting for views, since the last row."""
        (then, since, before), self._since = self._since, self._clock()
        now, done, waited = self._since
        seconds = max(now - then, 1e-9)
        return {
            "images_per_second": (done - since) * self.task.plan.batch_size / seconds,
            "data_wait": min((waited - before) / seconds, 1.0),
        }

    def _clock(self) -> tuple[float, int, float]:
        return time.perf_counter(), self.task.done, self.task.waited


class RejectionGuard:
    """Stops the run when too many of the images that it met can't be read.

    Args:
        run: rejected.csv goes there.
        task: knows the unreadable images met so far.
        share: of the images that may be unreadable.
    """

    def __init__(self, run: Run, task: Pretraining, *, share: float) -> None:
        self._run, self._task, self._share = run, task, share
        self._told = 0

    def __call__(self, terms: Mapping[str, Tensor]) -> bool:
        """Keep the list on disk as it grows."""
        rejected, source = self._task.rejected, self._task.plan.source
        if not any_of(len(rejected) > self._told):
            return False
        rejected.update(merged(rejected))  # each process meets its own rows' files
        self._told = len(rejected)
        if rank() == 0:
            self._run.write_rejected({printable(source.path(index)): reason for index, reason in rejected.items()})
        if self._told > self._share * len(source):
            raise UserError(
                f"{self._told} of {len(source)} images can't be read, above --max-rejected {self._share:g}; see "
                f"{self._run.path / 'rejected.csv'}, repair or remove them, then gemel resume {self._run.path}"
            )
        return False


class Reporter:
    """Shows the epoch, the loss terms, images a second and the time left.

    Args:
        display: where.
        recorder: knows the last terms.
    """

    def __init__(self, display: Display, recorder: Recorder) -> None:
        self._display, self._recorder = display, recorder
        self._names: list[str] = []

    def __call__(self, terms: Mapping[str, Tensor]) -> bool:
        """Show the step that has just ended."""
        self._names = [name for name in terms if not name.startswith("std_")]
        self._display.update(self._recorder.task.done, self._described)
        return False

    def _described(self, short: bool) -> tuple[str, str]:
        """A terminal of 80 columns holds the first four terms by four letters each."""
        task, last = self._recorder.task, self._recorder.last
        names = self._names[:4] if short else self._names[:5]
        cut, digits = (4, 2) if short else (None, 3)
        shown = " ".join(f"{name[:cut]} {last[name]:.{digits}f}" for name in names if name in last)
        per_epoch = task.plan.steps_per_epoch
        epoch = f"{(task.done - 1) // per_epoch + 1}/{task.steps // per_epoch}"
        label = epoch if short else f"{f'{task.stage.name}: ' if task.before else ''}epoch {epoch}  step"
        waits = float(last.get("data_wait", 0.0))
        speed = f"{last.get('images_per_second', 0.0):.0f} images/s"
        told = f", {waits:.0%} waiting for views" if waits >= WAITS and not short else ""
        return label, f"{shown}  {speed}{told}"
