"""A fit of a detector or a segmenter from its state, if there is one, to the end; its log beside it."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gemel.distributed import rank
from gemel.engine.loop import Loop
from gemel.runs.metrics_log import MetricsLog
from gemel.supervised.dense.task import DenseTask
from gemel.supervised.state import StateFile

KEYS = ("done", "network", "optimizer", "rejected", "precision")
"""of a state"""

SECONDS = 60.0
"""between two states"""

LOG = "log.csv"
"""a row for each step: step, every term of the loss, lr, images_per_second"""

Progress = Callable[[int, int], None]


def fit(
    task: DenseTask[Any], question: Mapping[str, Any], *, folder: Path, log: Path, name: str, tell: Progress | None
) -> None:
    """Take a task to its end.

    The same seed gives the same weights on a CPU, bit for bit, interrupted or not: the same call continues from
    FOLDER/evaluations/.fit-HASH.ckpt, which is gone at the end.

    Args:
        task: what is fitted.
        question: everything that the outcome depends on.
        folder: the subject's.
        log: folder of log.csv.
        name: of the fit, for messages.
        tell: called after each step.

    Raises:
        Interrupted: by SIGINT or SIGTERM; the state is written.
        Diverged: the loss or the weights are not finite; the last good state is kept.
    """
    file = StateFile(folder, question, KEYS)
    state = file.read()
    if state is not None:
        task.load(state)
        task.devices.load(state["precision"])
    written = _Written(task, log / LOG) if rank() == 0 else None

    def told(terms: Mapping[str, Tensor]) -> bool:
        if written is not None:
            written.row(terms)
        if tell is not None:
            tell(task.done, task.steps)
        return False

    Loop(
        task,
        task.devices,
        save=file.write,
        seconds=SECONDS,
        observers=[told],
        name=name,
        advice=lambda step: "try a smaller --lr",
    ).run()


def forget(question: Mapping[str, Any], folder: Path) -> None:
    """Remove the state of a fit whose outcome is kept."""
    StateFile(folder, question, KEYS).remove()


class _Written:
    """log.csv as it is written."""

    def __init__(self, task: DenseTask[Any], path: Path) -> None:
        self._task, self._log, self._before = task, MetricsLog(path, until=task.done), time.monotonic()

    def row(self, terms: Mapping[str, Tensor]) -> None:
        """Write the row of a step."""
        now = time.monotonic()
        rate = self._task.stream.batch_size / max(now - self._before, 1e-9)
        values = {name: float(value) for name, value in terms.items()}
        lr = self._task.optimizer.param_groups[0]["lr"]
        self._log.append({"step": self._task.done, **values, "lr": lr, "images_per_second": round(rate, 2)})
        self._before = now
