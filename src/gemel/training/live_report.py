"""A report from the first minute: report.html while a run is trained, and what it says when the training stops."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from gemel.data.decode import Unreadable, load
from gemel.data.listing import printable
from gemel.data.plan import Plan
from gemel.data.sources import VectorSource
from gemel.data.thumbnail import thumbnail
from gemel.engine.progress import Say
from gemel.errors import Diverged, Interrupted, UserError, brief
from gemel.reports import build_report
from gemel.runs.live import Phase, read_live, write_live
from gemel.runs.run import Run
from gemel.training.probes import Probe
from gemel.training.task import Pretraining

FIRST = 3.0
"""seconds of training before the first page: shorter runs write their last one alone"""
EVERY = 10.0
"""seconds between two pages, at least"""
SHARE = 0.01
"""of the time that pages may take"""
CLASSES = 24
"""classes that are shown, the largest ones among the images of a probe"""
SHOWN = 6
"""surest images of a class"""


class LiveReport:
    """Keeps a report while a stage is trained, as a context manager; one process has it.

    Args:
        run: report.html goes there.
        task: what is trained.
        probe: the images that are looked at now and then.
        say: is told, once, if the page can't be written.
    """

    def __init__(self, run: Run, task: Pretraining, probe: Probe, *, say: Say) -> None:
        self._run, self._task, self._probe, self._say = run, task, probe, say
        self._gallery: dict[str, Any] = {}
        self._shown: Tensor | None = None
        self._pictures: dict[int, str] = {}
        self._begun, self._first = time.monotonic(), task.done
        self._next = self._begun + FIRST

    def __enter__(self) -> Self:
        self._begun, self._first = time.monotonic(), self._task.done
        resumed = self._run.report_path.is_file()  # which says that the run was interrupted
        self._next = self._begun if resumed else self._begun + FIRST
        return self

    def __call__(self, terms: Mapping[str, Tensor]) -> bool:
        """Write the page, if it is time to."""
        now = time.monotonic()
        if now >= self._next:
            self._write("training", left=self._left(now))
            self._next = time.monotonic() + max(EVERY, (time.monotonic() - now) / SHARE)
        return False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Say in the report why the training stopped."""
        if error is not None:
            self._write("stopped", why=_reason(error))

    def _left(self, now: float) -> float | None:
        done = self._task.done - self._first
        return (now - self._begun) / done * (self._task.steps - self._task.done) if done else None

    def _write(self, phase: Phase, **facts: Any) -> None:
        task = self._task
        if self._probe.classes is not None and self._probe.classes is not self._shown:
            self._shown = self._probe.classes
            self._gallery = self._gallery_of(self._shown)
        stage = task.stage.name if task.before else ""
        try:
            facts |= {"stage": stage, "done": task.done, "steps": task.steps, "gallery": self._gallery}
            write_live(self._run, phase, every=EVERY, **facts)
            build_report([self._run])
        except (OSError, UserError) as error:  # no reason to stop a training
            self._say(f"the report can't be written while the run goes on: {error}")
            self._say = lambda text: None

    def _gallery_of(self, probabilities: Tensor) -> dict[str, Any]:
        """Return the surest images of each class among those of the probe, (n, C)."""
        sure, found = probabilities.max(1)
        counts = found.bincount(minlength=probabilities.shape[1])
        classes: list[dict[str, Any]] = []
        pictures: dict[str, str] = {}
        for number in counts.argsort(descending=True, stable=True)[:CLASSES].tolist():
            rows = (found == number).nonzero()[:, 0]
            rows = rows[sure[rows].argsort(descending=True, stable=True)]
            entries = [self._entry(row, float(sure[row])) for row in rows[:SHOWN].tolist()]
            pictures |= {entry["id"]: self._picture(int(entry["id"])) for entry in entries}
            mean = float(sure[rows].mean()) if len(rows) else 0.0
            classes.append(
                {"class": number, "count": len(rows), "probability": mean, "certain": entries, "uncertain": []}
            )
        return {"pictures": pictures, "classes": classes, "neighbours": []}

    def _entry(self, row: int, probability: float) -> dict[str, Any]:
        index = int(self._probe.index[row])
        return {"id": str(index), "path": printable(self._task.plan.source.path(index)), "probability": probability}

    def _picture(self, index: int) -> str:
        if index not in self._pictures:
            self._pictures[index] = _picture_of(self._task.plan, index)
        return self._pictures[index]


def report_closing(run: Run) -> None:
    """Let the page of a run that is trained say that classes and scores are being made, where there is a page."""
    live = read_live(run)
    if live is not None:
        write_live(run, "closing", every=3600.0, done=live.steps, steps=live.steps, gallery=live.gallery)
        build_report([run])


def _reason(error: BaseException) -> str:
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "a signal asked it to"
    return brief(str(error)) if isinstance(error, UserError | Diverged) else type(error).__name__


def _picture_of(plan: Plan, index: int) -> str:
    """Return an image as a data URI; empty of vectors without images, or if it can't be read."""
    source = plan.source
    if isinstance(source, VectorSource):
        if source.images is None:
            return ""
        source = source.images
    try:
        return thumbnail(source.display.picture(load(source, index))).uri
    except Unreadable:
        return ""
