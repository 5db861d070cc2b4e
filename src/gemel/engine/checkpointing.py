"""What keeps a run's work: checkpoints, signals, and a stop where the numbers end."""

import os
import signal
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gemel.data.listing import printable
from gemel.data.sources import Source
from gemel.distributed import any_of, rank
from gemel.engine import checkpoints
from gemel.errors import Diverged, UserError
from gemel.launcher import REQUEUE, requeue
from gemel.runs.run import Run
from gemel.training.task import Pretrainer, pretrainer


class Finite(Callback):
    """Stops a run whose loss is no longer a number, before anything of that step is kept.

    Args:
        run: told in the message.
        source: names the images of the batch.
    """

    def __init__(self, run: Run, source: Source) -> None:
        self.run, self.source = run, source

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The terms are of the global batch: every process stops at the same step."""
        module = pretrainer(pl_module)
        broken = [name for name, value in module.terms.items() if not torch.isfinite(value)]
        if broken:
            names = ", ".join(printable(self.source.path(place)) for place in batch.index[:4].tolist())
            raise Diverged(
                f"{', '.join(broken)} became no number at step {module.step} (images {names}, ...); nothing of that "
                f"step is kept in {self.run.path}; try a smaller --optimizer.lr or --precision 32"
            )


class Keeper(Callback):
    """Writes checkpoints: every `seconds`, at the end, and when a signal asks the run to stop.

    Args:
        run: where to.
        seconds: between checkpoints.
        facts: what the checkpoint is of: name, stage, settings, images, processes.

    Attributes:
        interrupted: a signal has stopped the run.
    """

    def __init__(self, run: Run, *, seconds: float, facts: Mapping[str, str | int]) -> None:
        self.run, self.seconds, self.facts = run, seconds, facts
        self.interrupted = False
        self._signal: int | None = None
        self._saved, self._saved_step = time.monotonic(), -1
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over: Lightning would leave with 1, and save in the midst of a step."""
        asked = (signal.SIGINT, signal.SIGTERM, *((REQUEUE,) if "SLURM_JOB_ID" in os.environ else ()))
        try:
            for number in asked:
                self._handlers[number] = signal.signal(number, self._interrupt)
        except ValueError:  # not in the main thread: its handlers stay as they are
            self._handlers.clear()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After the step, and after its row is written, so that what is saved is whole."""
        module = pretrainer(pl_module)
        # A signal reaches the processes at different steps: they stop together, at the first that all have done.
        self.interrupted = any_of(self._signal is not None)
        trainer.should_stop = trainer.should_stop or self.interrupted
        if self.interrupted or time.monotonic() - self._saved >= self.seconds:
            self.save(trainer, module)
        if self.interrupted and any_of(self._signal == REQUEUE) and rank() == 0:
            requeue()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last checkpoint; and the signals go back to whoever had them."""
        module = pretrainer(pl_module)
        if module.step != self._saved_step:
            self.save(trainer, module)
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """A run that stops for the user's files keeps what it has learned."""
        if isinstance(exception, UserError):
            self.save(trainer, pretrainer(pl_module))
        self._give_back()

    def save(self, trainer: Trainer, module: Pretrainer) -> None:
        """Write checkpoints/last.ckpt; the processes hold the same, the first one writes."""
        self._saved, self._saved_step = time.monotonic(), module.step
        if rank() != 0:
            return
        state = {
            **self.facts,
            "step": module.step,
            "method": module.method.state_dict(),
            "optimizer": module.optimizer.state_dict(),
            "precision": trainer.precision_plugin.state_dict(),
        }
        self.run.flush_metrics()
        checkpoints.save(self.run, state)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        self._give_back()  # a second signal ends the process at once

    def _give_back(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())
