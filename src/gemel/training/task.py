"""Pretraining as a task of the loop: a method's step, its hooks, its rates."""

import time
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gemel.data.batches import Loader
from gemel.data.listing import printable
from gemel.data.normalise import finisher
from gemel.data.plan import Batch, Plan, Unfinished
from gemel.device import device
from gemel.distributed import as_one, joined_rows
from gemel.engine import optimizers
from gemel.engine.in_shares import Shares
from gemel.engine.loop import seed_all
from gemel.engine.modes import evaluation_mode
from gemel.engine.sync_batch_norm import synchronise
from gemel.launcher import launched
from gemel.methods.base import Embed, Embedded, Method
from gemel.training.build import load_tensors
from gemel.training.embed import Embedder
from gemel.training.stages import Stage

_HOOKS = 1
"""what tells the random numbers of hooks from those of the networks, which differ by rank: (seed, step, rank)"""


class Pretraining:
    """Takes a method through the steps of one stage.

    Args:
        method: what is learned.
        stage: its views, optimiser and epochs.
        plan: what is drawn at every step, by the stage's views.
        workers: threads that prepare views.
        done: steps of this stage done already.
        shares: of a batch, by which all sums are taken in one order; the loop then averages no gradients. None: each
            process sums what it has.

    Attributes:
        before: steps of the stages before.
        rejected: reasons of the unreadable images met so far, by index.
        waited: seconds that the training has waited for views.
    """

    def __init__(
        self,
        method: Method,
        stage: Stage,
        plan: Plan,
        *,
        workers: int = 0,
        done: int = 0,
        shares: int | None = None,
    ) -> None:
        self._shares = None if shares is None else Shares(shares, plan.batch_size // shares)
        if launched().processes > 1 and self._shares is None:
            synchronise(method)
        method.stage = stage.name
        self.method = method.to(device()).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.network: nn.Module = self.method
        self.guarded: nn.Module = self.method
        self.stage, self.plan, self.workers = stage, plan, workers
        self.normalise = finisher(stage.views).to(device())
        self.seed, self.steps, self.done = plan.seed, stage.epochs * plan.steps_per_epoch, done
        self.before = stage.before * plan.steps_per_epoch
        self.optimizer = optimizers.build(stage.optimizer, method.parameter_groups())
        self.rejected: dict[int, str] = {}
        self.waited = 0.0
        self._cache = Loader(plan).cache
        self._embedder = Embedder(method, plan, self.normalise, workers, in_blocks=shares is not None)
        self._overrides = {name for name in ("before_step", "after_stage", "order") if _overridden(method, name)}

    @property
    def step(self) -> int:
        """Steps done in all stages."""
        return self.before + self.done

    @property
    def epoch(self) -> int:
        """Epoch of the next step, in all stages: no stage draws what another has drawn."""
        return self.step // self.plan.steps_per_epoch

    @property
    def rate(self) -> float:
        """The learning rate of the first group at the last step."""
        return self.optimizer.param_groups[0]["lr"]

    def begin(self) -> None:
        """Prepare the stage as it truly begins.

        Raises:
            UserError: the method refuses its options in this stage.
        """
        with self._as_one():
            self.method.before_stage(self.stage.name, self._prepared_embed())

    def batches(self) -> Generator[Batch | Unfinished]:
        """Yield the batches from step `done` on; an epoch's own order is asked for as the epoch begins."""
        first, last, size = self.step, self.before + self.steps, self.plan.steps_per_epoch
        spans = [range(first, last)]
        if "order" in self._overrides:
            spans = [range(max(first, start), start + size) for start in range(first // size * size, last, size)]
        for steps in spans:
            loader = Loader(self._plan_of(steps), steps, workers=self.workers, cache=self._cache)
            asked = time.perf_counter()
            for batch in loader:
                self.waited += time.perf_counter() - asked
                self.rejected.update(loader.rejected)
                yield batch
                asked = time.perf_counter()

    def before_step(self, progress: float) -> None:
        """Call the method's hooks, at the first step of an epoch and at every step."""
        with self._as_one():
            if self.done % self.plan.steps_per_epoch == 0:
                self.method.before_epoch(self._prepared_embed(), progress)
                optimizers.forget(self.optimizer, self.method.renewed())
            if "before_step" in self._overrides:
                self.method.before_step(self._prepared_embed(), progress)
                optimizers.forget(self.optimizer, self.method.renewed())

    def loss(self, network: nn.Module, batch: Batch | Unfinished, progress: float) -> dict[str, Tensor]:
        """Return the method's terms of uint8 views, finished here if the workers left that to the device."""
        batch = batch.finished() if isinstance(batch, Unfinished) else batch
        views, partners = ([self.normalise(view) for view in part] for part in (batch.views, batch.partners))
        batch = batch._replace(views=views, partners=partners)
        if self._shares is None:
            return network(batch, progress)
        batch = batch._replace(index=joined_rows(batch.index), label=joined_rows(batch.label))
        seed_all(self.seed, self.step, 0)  # heads and loss draw the same on all processes
        with self._shares.shown():
            return network(batch, progress)

    def adjust(self, progress: float) -> None:
        """Drop gradients of what does not learn yet, clip, and set the rates."""
        optimizers.drop_gradients_before_start(self.optimizer, progress)
        optimizers.clip_gradients(self.optimizer, self.stage.optimizer)
        optimizers.set_rates(
            self.optimizer,
            self.stage.optimizer,
            progress,
            batch_size=self.plan.batch_size,
            steps=self.steps,
            epochs=self.stage.epochs,
        )

    def after_step(self, progress: float) -> None:
        """Call the method's hooks: teachers follow, queues fill; after the last step what depends on all images."""
        self._seed_hook(self.step)
        with self._as_one():
            self.method.after_step(progress)
            if self.done + 1 == self.steps and "after_stage" in self._overrides:
                with evaluation_mode(self.method):
                    self.method.after_stage(self._prepared_embed())

    def describe(self, batch: Any) -> str:
        """Name the first images of a batch."""
        batch = batch.batch if isinstance(batch, Unfinished) else batch
        return f"images {', '.join(printable(self.plan.source.path(index)) for index in batch.index[:4].tolist())}, ..."

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the stage."""
        return {
            "stage": self.stage.number,
            "step": self.step,
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def continue_after(self, before: "Pretraining") -> None:
        """Take over the optimiser's momenta, and what is known of unreadable images, from the stage before."""
        optimizers.carry_over(before.optimizer, self.optimizer)
        self.rejected.update(before.rejected)

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint of this stage."""
        load_tensors(self.method, state["method"], "the checkpoint")
        self.optimizer.load_state_dict(state["optimizer"])

    def _plan_of(self, steps: range) -> Plan:
        partners = self.method.partners
        found = replace(self.plan, partners=None if partners is None else partners.cpu().numpy())
        if "order" in self._overrides:
            epoch = steps.start // self.plan.steps_per_epoch
            self._seed_hook(epoch)
            with self._as_one():
                rows = self.method.order(epoch)
            found = replace(found, order=None if rows is None else rows.cpu().numpy())
        return found

    def embedded(
        self, head: nn.Module | None = None, *, views: bool = False, training: bool = False, network: Any = None
    ) -> Embedded:
        """Return vectors of all images, as `gemel.methods.base.Embed`."""
        # Batch norms in training mode would sum over each process's rows: where bits count, each process sees all.
        with self._as_one(training):
            return self._embedder(head, epoch=self.epoch, views=views, training=training, network=network)

    def _as_one(self, on: bool = True) -> AbstractContextManager[None]:
        """Return a block in which hooks do on each process what they do on one: their sums have the same bits."""
        return nullcontext() if self._shares is None else as_one(on)

    def _prepared_embed(self) -> Embed:
        """Seed what a hook draws, and return its `embed`."""
        self._seed_hook(self.step)
        return self.embedded

    def _seed_hook(self, number: int) -> None:
        """Seed what a hook draws by a step or an epoch: the same on all processes and after a resume."""
        seed_all(self.seed, number, 0, _HOOKS)


def _overridden(method: Method, name: str) -> bool:
    return getattr(type(method), name) is not getattr(Method, name)
