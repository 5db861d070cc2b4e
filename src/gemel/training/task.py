"""Pretrainer: the one LightningModule of pretraining; normalise, step, schedule the rate."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from gemel.data.batches import Batch, Unfinished
from gemel.data.normalise import Normalise
from gemel.distributed import rank
from gemel.engine import optimizers
from gemel.engine.sync_batch_norm import synchronise
from gemel.launcher import launched
from gemel.methods.base import Method
from gemel.schedules import cosine, warmup_cosine
from gemel.settings.recipes import Optimizer as OptimizerDescription
from gemel.settings.recipes import Views


class Pretrainer(LightningModule):
    """Takes a method through the steps of a run.

    Args:
        method: what is learned.
        description: of the optimiser.
        views: recipe of the views, for mean and standard deviation.
        batch_size: over all processes; the rate is lr · batch_size / 256.
        steps: of the stage, all epochs together.
        warmup: share of the steps that warm up.
        before: steps of the stages before.
        start: steps of this stage done already.
        seed: of the run; whatever a network draws at a step follows from it and the step's number.
    """

    def __init__(
        self,
        method: Method,
        description: OptimizerDescription,
        views: Views,
        *,
        batch_size: int,
        steps: int,
        warmup: float,
        before: int = 0,
        start: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if launched().processes > 1:
            synchronise(method)
        self.method = method.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.normalise = Normalise(views.mean, views.std)
        self.description = description
        self.batch_size, self.steps, self.warmup = batch_size, steps, warmup
        self.before, self.done, self.seed = before, start, seed
        self.terms: dict[str, Tensor] = {}
        self.precision: dict[str, Any] = {}  # the trainer's, handed on to the next stage's
        self.optimizer = optimizers.build(description, method.parameter_groups())

    @property
    def progress(self) -> float:
        """Steps done / steps of the stage, in [0, 1)."""
        return self.done / self.steps

    @property
    def step(self) -> int:
        """Steps done in all stages."""
        return self.before + self.done

    @property
    def rate(self) -> float:
        """The learning rate of the first group at this step."""
        return self.optimizer.param_groups[0]["lr"]

    def configure_optimizers(self) -> Any:
        """The optimiser alone: its rate follows `progress`, not a scheduler's state."""
        return self.optimizer

    def training_step(self, batch: Batch | Unfinished, batch_idx: int) -> Tensor:
        """The loss of a batch of uint8 views, finished here if the workers have left that to the device."""
        # Dropout and the like draw from the step's own number: no random state needs keeping, and no two processes
        # drop the same.
        torch.manual_seed(int(np.random.SeedSequence((self.seed, self.step, rank())).generate_state(1)[0]))
        batch = batch.finished() if isinstance(batch, Unfinished) else batch
        batch = batch._replace(views=[self.normalise(view) for view in batch.views])
        terms = self.method(batch, self.progress)
        self.terms = {name: value.detach() for name, value in terms.items()}
        return terms["loss"]

    def optimizer_step(self, *given: Any, **options: Any) -> None:
        """Set the rate and step; then teachers follow, queues fill, and the step counts as done."""
        description = self.description
        factor = warmup_cosine(self.progress, warmup=self.warmup, final=description.final)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * self.batch_size / 256 * factor
            if description.final_decay is not None and group["decays"]:
                group["weight_decay"] = cosine(self.progress, description.weight_decay, description.final_decay)
        super().optimizer_step(*given, **options)
        self.method.after_step(self.progress)
        self.done += 1


def pretrainer(module: LightningModule) -> Pretrainer:
    """The module of the trainer's hooks by its own type."""
    assert isinstance(module, Pretrainer)
    return module
