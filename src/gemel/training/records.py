"""What happens beside the steps: rows of metrics.csv, probes, unreadable images, progress."""

import sys
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from gemel.data.batches import InferenceLoader, Loader, Plan, is_glyph
from gemel.data.listing import printable
from gemel.distributed import any_of, merged, rank
from gemel.errors import UserError
from gemel.metrics.health import health
from gemel.request.estimate import clock
from gemel.request.resolve import Say
from gemel.runs.run import MetricsLog, Run
from gemel.training.probes import Probe
from gemel.training.task import Pretrainer, pretrainer


class Recorder(Callback):
    """Writes a row of metrics.csv every `every` steps, with the probes' columns at every `probe_every`-th step.

    Args:
        run: where to.
        probe: what else is measured.
        steps_per_epoch: for the epoch's number.
        every: steps between rows.
        probe_every: steps between probes.
        board: a TensorBoard writer, or None.
        stage: its name.
        start: steps done already, of all stages; later rows are cut off.
        say: is told, once, when the probes find that the run has failed.
    """

    def __init__(
        self,
        run: Run,
        probe: Probe,
        *,
        steps_per_epoch: int,
        every: int,
        probe_every: int,
        board: Any,
        stage: str,
        start: int,
        say: Say,
    ) -> None:
        self.run, self.say, self._alarmed = run, say, False
        self.rows = MetricsLog(run.metrics_path, until=start)
        self.probe = probe
        self.steps_per_epoch, self.every, self.probe_every = steps_per_epoch, every, probe_every
        self.board, self.stage = board, stage
        self.last: dict[str, float | int | str] = {}
        self._since = (time.perf_counter(), 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The clock of images a second starts here."""
        module = pretrainer(pl_module)
        self._since = (time.perf_counter(), module.done)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """`done` counts the step that has just ended."""
        module = pretrainer(pl_module)
        step = module.done
        probing = step % self.probe_every == 0 or step == module.steps
        if not (probing or step % self.every == 0 or step == module.steps or step == 1):
            return
        row: dict[str, float | int | str] = {
            "stage": self.stage,
            "epoch": (module.step - 1) // self.steps_per_epoch,
            "step": module.step,
            "progress": step / module.steps,
            **{name: float(value) for name, value in module.terms.items()},
            "lr": module.rate,
            "images_per_second": self._speed(module),
        }
        if probing:
            row |= self.probe.measure(module.method)
            self._since = (time.perf_counter(), step)  # a probe's time is not training's
        self.last = {**self.last, **row}
        self.rows.append(row)
        if probing and not self._alarmed and self.run.metrics_path.is_file():
            self._alarm(module.step)
        if self.board is not None:
            for name, value in row.items():
                if isinstance(value, float | int):
                    self.board.add_scalar(name, value, module.step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Flush what TensorBoard has been told."""
        if self.board is not None:
            self.board.close()

    def _alarm(self, step: int) -> None:
        """Say it when the run has failed, while there is time to stop it."""
        for finding in health(self.run.metrics().to_pydict()):
            if finding.level == "bad" and step > 1:
                self._alarmed = True
                self.say(f"warning at step {step}: {finding.message}; to try: {finding.advice}")

    def _speed(self, module: Pretrainer) -> float:
        now, (then, since) = time.perf_counter(), self._since
        self._since = (now, module.done)
        return (module.done - since) * module.batch_size / max(now - then, 1e-9)


class EpochCaller(Callback):
    """Calls a method's `before_epoch`, where it has one.

    Args:
        plan: whose images it may look at.
        workers: threads that prepare them.
    """

    def __init__(self, plan: Plan, workers: int) -> None:
        self.plan, self.workers = plan, workers

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Before the first step of each epoch."""
        module = pretrainer(pl_module)
        if module.done % self.plan.steps_per_epoch == 0:
            module.method.before_epoch(lambda: self._embed(module), module.progress)

    @torch.no_grad()
    def _embed(self, module: Pretrainer) -> Tensor:
        """Features of all images; a row of zeros where an image can't be read."""
        encoder, plan = module.method.encoder(), self.plan
        training, found = encoder.training, torch.zeros(len(plan.source), encoder.width, device=module.device)
        encoder.eval()
        crops = InferenceLoader(plan.source, size=plan.size, glyph=is_glyph(plan.views), workers=self.workers)
        for images, index in crops:
            found[index.to(found.device)] = encoder(module.normalise(images.to(found.device))).to(found.dtype)
        encoder.train(training)
        return found


class RejectionGuard(Callback):
    """Stops the run when too many of the images that it met can't be read.

    Args:
        run: rejected.csv goes there.
        loader: knows the unreadable images met so far.
        share: of the images that may be unreadable.
    """

    def __init__(self, run: Run, loader: Loader, *, share: float) -> None:
        self.run, self.loader, self.share = run, loader, share
        self._told = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the list on disk as it grows."""
        rejected, source = self.loader.rejected, self.loader.plan.source
        if not any_of(len(rejected) > self._told):
            return
        rejected.update(merged(rejected))  # each process meets its own rows' files
        self._told = len(rejected)
        if rank() == 0:
            self.run.write_rejected({printable(source.path(index)): reason for index, reason in rejected.items()})
        if self._told > self.share * len(source):
            raise UserError(
                f"{self._told} of {len(source)} images can't be read, above --max-rejected {self.share:g}; "
                f"see {self.run.path / 'rejected.csv'}, mend or remove them, then gemel resume {self.run.path}"
            )


class Reporter(Callback):
    """Progress: a bar on a terminal, else a line now and then; loss terms, images a second, time left.

    Args:
        recorder: knows the last terms.
        steps_per_epoch: for the epoch's number.
        say: where lines go.
    """

    def __init__(self, recorder: Recorder, *, steps_per_epoch: int, say: Say) -> None:
        self.recorder, self.steps_per_epoch, self.say = recorder, steps_per_epoch, say
        self._bar: Progress | None = None
        self._task: Any = None
        self._clock = (0.0, 0)
        self._next = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        module = pretrainer(pl_module)
        self._clock = (time.monotonic(), module.done)
        if sys.stdout.isatty():
            columns = (TextColumn("{task.fields[epoch]}"), BarColumn(10), TextColumn("{task.fields[terms]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Console())
            self._bar.start()
            self._task = self._bar.add_task("", total=module.steps, completed=module.done, epoch="0", terms="")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar; without a terminal a line about every 10 seconds and at the end."""
        module = pretrainer(pl_module)
        epochs = module.steps // self.steps_per_epoch
        epoch = f"{(module.done - 1) // self.steps_per_epoch + 1}/{epochs}"
        if self._bar is not None:
            self._bar.update(self._task, completed=module.done, epoch=epoch, terms=self._short(module))
            return
        now, (then, start) = time.monotonic(), self._clock
        if now >= self._next or module.done == module.steps:
            self._next = now + 10.0
            left = (now - then) / max(1, module.done - start) * (module.steps - module.done)
            stage = f"{self.recorder.stage}: " if module.before else ""
            self.say(f"{stage}epoch {epoch}  step {module.done}/{module.steps}  {self._terms()}  {clock(left)} left")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self.on_train_end(trainer, pl_module)

    def _short(self, module: Pretrainer) -> str:
        """The loss and its terms by four letters each: a terminal of 80 columns holds them beside the time left."""
        names = [name for name in module.terms if not name.startswith("std_")]
        shown = " ".join(f"{name[:4]} {self.recorder.last.get(name, 0.0):.2f}" for name in names[:4])
        return f"{shown} {self.recorder.last.get('images_per_second', 0.0):.0f} images/s"

    def _terms(self) -> str:
        shown = {
            name: value
            for name, value in self.recorder.last.items()
            if isinstance(value, float) and name not in ("progress", "lr") and not name.startswith("std_")
        }
        speed = shown.pop("images_per_second", 0.0)
        return " ".join(f"{name} {value:.3f}" for name, value in list(shown.items())[:5]) + f"  {speed:.0f} images/s"
