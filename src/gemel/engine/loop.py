"""The one loop: steps of a task, signals, checkpoints, and a stop where numbers are no longer finite."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gemel.device import device
from gemel.distributed import rank
from gemel.engine.devices import Devices, moved
from gemel.engine.finite import ADVICE, Finite, check_weights
from gemel.engine.processes import flags_of_all
from gemel.engine.signals import Signals
from gemel.errors import Interrupted, UserError
from gemel.launcher import requeue

SHARE = 0.05
"""largest share of the time that checkpoints take where one is long, as with a memory of all images"""
LONG = 1.0
"""seconds; a shorter one is written as often as it was asked for"""

Terms = dict[str, Tensor]


class Task(Protocol):
    """What a loop repeats.

    Attributes:
        network: what learns; the loop puts it on the device and averages its gradients over the processes.
        optimizer: of its parameters.
        seed: of the random numbers that a network draws at a step.
        steps: in all.
        done: steps done.
    """

    network: nn.Module
    optimizer: Optimizer
    seed: int
    steps: int
    done: int

    @property
    def guarded(self) -> nn.Module:
        """What must be finite in a checkpoint: `network`, or the parts of it that may not diverge."""
        ...

    @property
    def step(self) -> int:
        """Steps done over all stages."""
        ...

    def batches(self) -> Iterator[Any]:
        """Yield the batches from step `done` on; each a pure function of (seed, step), prefetched."""
        ...

    def before_step(self, progress: float) -> None:
        """Prepare a step, before its batch is asked for."""
        ...

    def loss(self, network: nn.Module, batch: Any, progress: float) -> Terms:
        """Return named terms, among them "loss", the same on every process."""
        ...

    def adjust(self, progress: float) -> None:
        """Change gradients and rates after the backward pass, before the optimiser's step."""
        ...

    def after_step(self, progress: float) -> None:
        """Update what follows the step."""
        ...

    def describe(self, batch: Any) -> str:
        """Name a batch in the message of a run that diverged at it."""
        ...

    def state(self) -> dict[str, Any]:
        """Return tensors, numbers and strings that a checkpoint holds beside the number of steps."""
        ...


Observer = Callable[[Mapping[str, Tensor]], bool]
"""called with the terms after each step; returns True to have the checkpoint written now (the end of an epoch)"""


class Loop:
    """Repeats a task's step to the end.

    A checkpoint is written every `seconds`, or less often where that would take more than `SHARE` of the time, at the
    end, after a signal, and where an observer asks; never of weights that are not finite. Steps at which `looks` is
    False wait for no result of the device.

    Args:
        task: what is repeated.
        devices: where.
        save: writes a checkpoint's state; called on every process.
        seconds: between checkpoints.
        looks: whether the terms of a step (counted from 1) are looked at; observers may read them only then.
        observers: called after each step, in this order, before a checkpoint is written.
        name: of the run, for messages.
        part: what the steps are counted in, for messages: " of self_labeling".
        continues: what continues an interrupted loop, for messages.
        advice: returns what to try after a divergence at a step (of all stages), for messages.
    """

    def __init__(
        self,
        task: Task,
        devices: Devices,
        *,
        save: Callable[[dict[str, Any]], None],
        seconds: float,
        looks: Callable[[int], bool] = lambda step: True,
        observers: Sequence[Observer] = (),
        name: str = "",
        part: str = "",
        continues: str = "the same command continues it",
        advice: Callable[[int], str] = lambda step: ADVICE,
    ) -> None:
        self.task, self.devices, self.name, self._part, self._continues = task, devices, name, part, continues
        self._network = devices.wrapped(task.network)
        self._save, self._seconds, self._looks, self._observers = save, seconds, looks, observers
        self._finite, self._signals, self._advice = Finite(), Signals(), advice
        self._saved_at, self._saved_step, self._pause = time.monotonic(), -1, seconds

    def run(self) -> None:
        """Step to the end; what was done is in the checkpoint.

        Raises:
            Interrupted: a signal asked to stop.
            Diverged: the loss or the weights became NaN or infinite; the last good checkpoint stays.
            UserError: an observer stopped the run for the user's files; a checkpoint is written.
        """
        task = self.task
        with self._signals.taken():
            batches = task.batches()
            try:
                while task.done < task.steps:
                    if self._save_or_stop(self._observed(*self.step(batches))):
                        where = f"step {task.done} of {task.steps}{self._part}"
                        raise Interrupted(f"interrupted after {where}; {self._continues}")
            finally:
                close = getattr(batches, "close", None)
                if close is not None:
                    close()  # ends the threads that prefetch
            if task.done != self._saved_step:
                self.save()

    def step(self, batches: Iterator[Any]) -> tuple[Any, Terms]:
        """Do one step; return its batch and terms, on the device."""
        batch, terms = self.gradients(batches)
        self._update()
        return batch, {name: value.detach() for name, value in terms.items()}

    def gradients(self, batches: Iterator[Any]) -> tuple[Any, Terms]:
        """Do the first half of a step, up to the gradients; return its batch and terms, on the device."""
        task, devices = self.task, self.devices
        progress = task.done / task.steps
        task.before_step(progress)
        batch = moved(next(batches))
        # Dropout and the like draw from the step's own number: no random state needs to be saved, and no two
        # processes drop the same.
        seed_all(task.seed, task.step, rank())
        terms = task.loss(self._network, batch, progress)
        devices.backward(terms["loss"])
        devices.unscale(task.optimizer)
        return batch, terms

    def _update(self) -> None:
        """Do the second half of a step, which changes the weights."""
        task = self.task
        progress = task.done / task.steps
        task.adjust(progress)
        self.devices.step(task.optimizer)
        task.optimizer.zero_grad()
        task.after_step(progress)
        task.done += 1

    def _observed(self, batch: Any, terms: Terms) -> bool:
        """Check the terms and tell the observers; return whether one of them asks for a checkpoint."""
        self._finite.note(terms, self.task.step)
        if self.devices.device.type == "cpu" or self._looks(self.task.done):
            self._finite.check(self.name, lambda: self.task.describe(batch), self._advice)
        try:
            asks = [observer(terms) for observer in self._observers]  # each must be called
        except UserError:  # on every process, as observers agree: what was learned is kept
            self.save()
            raise
        return any(asks)

    def save(self) -> None:
        """Write a checkpoint, once the weights are known to be finite."""
        begun = time.monotonic()
        check_weights(self.task.guarded, self.name, self.task.step, self._advice(self.task.step))
        self._save(self.task.state() | {"precision": self.devices.state()})
        self._saved_at, self._saved_step = time.monotonic(), self.task.done
        taken = self._saved_at - begun
        self._pause = max(self._seconds, taken / SHARE) if taken > LONG else self._seconds

    def _save_or_stop(self, wants_checkpoint: bool) -> bool:
        """Write the checkpoint that is due; return whether to stop. Processes agree, as a signal reaches them apart."""
        due = wants_checkpoint or time.monotonic() - self._saved_at >= self._pause
        stops, requeues, due = flags_of_all(self._signals.received is not None, self._signals.requeues, due)
        if stops or due:
            self.save()
        if requeues and rank() == 0:
            requeue()
        return stops


def seed_all(*numbers: int) -> None:
    """Seed torch's generators by some numbers, of the run, the step and, where processes must differ, the rank."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    if device().type == "cpu":  # torch.manual_seed takes milliseconds to tell devices that are not there
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
