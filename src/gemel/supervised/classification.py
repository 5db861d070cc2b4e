"""Classification as a task of the loop: heads on a frozen network, side by side, or a network and its head."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer

from gemel.data.listing import printable
from gemel.data.normalise import Normalise
from gemel.device import device
from gemel.distributed import from_first, mean_over_processes, merged, world_size
from gemel.engine.devices import Devices
from gemel.engine.frozen import Engine, Look, engine_for, frozen
from gemel.engine.modes import evaluation_mode
from gemel.engine.optimizers import Lars
from gemel.engine.processes import by_the_first
from gemel.engine.sync_batch_norm import SyncedBatchNorm, synchronise
from gemel.errors import UserError
from gemel.supervised.images import Plan, Step
from gemel.supervised.recipes import Fitting
from gemel.supervised.test_set import Judge

History = dict[str, list[list[dict[str, float]]]]
"""by test set: epochs, heads, metrics"""


class Heads(nn.Module):
    """Linear layers side by side on the same features; weights from N(0, 0.01²), biases 0, all alike.

    Args:
        count: of layers.
        width: of the features.
        classes: of each layer.
        seed: random seed of the weights.
    """

    def __init__(self, count: int, width: int, classes: int, seed: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, classes) for _ in range(count))
        for layer in self.linear:
            nn.init.normal_(layer.weight, 0.0, 0.01, generator=torch.Generator().manual_seed(seed))
            nn.init.zeros_(layer.bias)

    @property
    def linear(self) -> list[nn.Linear]:
        """The layers."""
        return [cast(nn.Linear, layer) for layer in self.layers]

    def forward(self, features: Tensor) -> list[Tensor]:
        """Return each layer's logits (B, C), in float32."""
        with torch.autocast(features.device.type, enabled=False):
            return [layer(features.float()) for layer in self.layers]


class Classification(ABC):
    """Minimise the mean cross entropy of each batch; a task of the loop.

    Args:
        backbone: normalised floats (B, 3, H, W) to (B, width).
        facts: as in backbone.json: size, mean, std.
        plan: what is fitted on.
        fitting: the recipe.
        classes: of each head.
        devices: where, and in which precision.

    Raises:
        UserError: the network returns no features for such images.
    """

    network: nn.Module

    def __init__(
        self,
        backbone: nn.Module,
        facts: Mapping[str, Any],
        plan: Plan,
        fitting: Fitting,
        *,
        classes: int,
        devices: Devices,
    ) -> None:
        self.plan, self.fitting, self.classes, self.devices = plan, fitting, classes, devices
        self.frozen = fitting.backbone_lr is None
        self.seed, self.done, self.steps = plan.seed, 0, fitting.epochs * plan.steps_per_epoch
        self.backbone = backbone.eval().to(device()).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.look: Look = self.backbone
        self._normalise = Normalise(facts["mean"], facts["std"]).to(device())
        self.width = _width(self.backbone, plan.size, len(facts["mean"]))
        self.heads = Heads(len(fitting.lr), self.width, classes, plan.seed).to(device())
        self.optimizer = _optimizer(fitting, self.heads, self.backbone)
        self.history: History = {}
        self.rejected: dict[int, str] = {}

    @abstractmethod
    def inputs(self, views: Tensor) -> Tensor:
        """Return what `network` takes for this process's views (b, 3, S, S) uint8."""

    @property
    def guarded(self) -> nn.Module:
        """What must be finite in a state: heads, of which one may diverge beside others, and a fitted network."""
        finite = [one for one in self.heads.linear if bool(one.weight.isfinite().all() & one.bias.isfinite().all())]
        return nn.ModuleList([*(finite or self.heads.linear), *([] if self.frozen else [self.backbone])])

    @property
    def step(self) -> int:
        """Steps done."""
        return self.done

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.done // self.plan.steps_per_epoch

    def batches(self) -> Iterator[Step]:
        """Yield the batches from step `done` on."""
        return self.plan.batches(range(self.done, self.steps), self.rejected)

    def before_step(self, progress: float) -> None:  # noqa: B027
        """Do nothing."""

    def loss(self, network: nn.Module, batch: Step, progress: float) -> dict[str, Tensor]:
        """Return the sum over the heads of the mean cross entropy; a head that has diverged does not count.

        L = Σ_h 1/B Σ_i -log softmax(z_hi)_{y_i} over the B images of all processes, whose shares may differ.
        """
        logits: list[Tensor] = network(self.inputs(batch.views))
        rows = len(batch.labels)
        sums = torch.stack([cross_entropy(one[:rows], batch.labels, reduction="sum") for one in logits])
        losses = mean_over_processes(sums * world_size() / batch.images)  # (H,)
        finite = losses.isfinite()
        return {"loss": torch.where(finite, losses, 0.0).sum() / finite.any()}  # NaN where no head is left

    def adjust(self, progress: float) -> None:
        """Set the rates of the step."""
        per_epoch = self.plan.steps_per_epoch
        factor = self.fitting.rate_factor(self.epoch, self.done % per_epoch, per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    def after_step(self, progress: float) -> None:  # noqa: B027
        """Do nothing."""

    def describe(self, batch: Step) -> str:
        """Name the first images of this process's part of a batch."""
        source = self.plan.images.source
        return f"images {', '.join(printable(source.path(index)) for index in batch.indices[:4].tolist())}, ..."

    def judge(self, judges: Mapping[str, Judge]) -> bool:
        """Judge the heads if an epoch has ended; return whether it has."""
        if self.done % self.plan.steps_per_epoch:
            return False
        self.check()
        with evaluation_mode(self.backbone), torch.no_grad():
            for name, judge in judges.items():
                scores = judge.scores(self._logits, len(self.heads.layers), self.classes)
                self.history.setdefault(name, []).append(scores)
        return True

    @abstractmethod
    def check(self) -> None:
        """Prove what must hold at the end of an epoch, before the heads are judged."""

    def features(self, views: Tensor) -> Tensor:
        """Return the features (b, width) of uint8 views, by the backbone in whichever mode it is."""
        with self.devices.autocast():
            return self.look(self._normalise(views)).float()

    def _logits(self, views: Tensor) -> list[Tensor]:
        return self.heads(self.features(views))

    def state(self) -> dict[str, Any]:
        """Return tensors, numbers and strings to continue from; all processes must ask."""
        return {
            "done": self.done,
            "network": {} if self.frozen else self.backbone.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "rejected": merged(self.rejected),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        if not self.frozen:
            self.backbone.load_state_dict(state["network"])
        self.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done, self.history, self.rejected = state["done"], state["history"], state["rejected"]

    def facts(self) -> dict[str, Any]:
        """Return the numbers that follow from the recipe and the images."""
        row, plan = self.fitting, self.plan
        over = len(plan.images) % row.batch_size
        return {
            "classes": self.classes,
            "head_width": self.width,
            "images": len(plan.images),
            "rates": [rate * row.scale for rate in row.lr],
            "backbone_rate": None if row.backbone_lr is None else row.backbone_lr * row.scale,
            "last_batch": f"{over} images, {'fitted on' if plan.rest else 'left out'}" if over else "full",
            "batch_norm": "running statistics" if self.frozen else "of the whole batch, over all processes",
            "processes": world_size(),
            "seed": self.seed,
            "unreadable": len(merged(self.rejected)),
            "views": plan.views.model_dump(mode="json"),
        }


class Frozen(Classification):
    """Heads on a network in evaluation mode without gradients; nothing couples the heads."""

    def __init__(self, backbone: nn.Module, *args: Any, **options: Any) -> None:
        # Before anything runs: a first forward pass would move the statistics of a network that ignores eval().
        self._before = {name: value.clone() for name, value in backbone.state_dict().items()}
        super().__init__(backbone, *args, **options)
        self.network, images = self.heads, self.steps * self.plan.batch_size
        self._see_by(by_the_first(lambda: engine_for(self.backbone, self.plan.size, images=images)))
        self.not_finite = torch.zeros((), dtype=torch.bool, device=device())

    def _see_by(self, engine: Engine) -> None:
        self._engine: Engine = engine
        self.look = frozen(self.backbone, self.plan.size, engine=engine)

    def state(self) -> dict[str, Any]:
        """Return tensors, numbers and strings to continue from, and what runs the network."""
        return super().state() | {"engine": self._engine}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a state, to the last digit by what ran the network before."""
        super().load(state)
        engine = state.get("engine", "torch")  # states of earlier versions have none
        if engine != self._engine:
            self._see_by(engine)

    def inputs(self, views: Tensor) -> Tensor:
        """Return the features; a process without a row of the batch spares the network."""
        if not len(views):
            return torch.zeros(0, self.width, device=views.device)
        with torch.no_grad():
            features = self.features(views)
        self.not_finite |= ~features.isfinite().all()
        return features

    def check(self) -> None:
        """Hold every tensor against the start, which catches running statistics that moved.

        Raises:
            UserError: one changed.
        """
        now = self.backbone.state_dict()
        changed = [name for name, value in self._before.items() if not torch.equal(now[name].cpu(), value.cpu())]
        if changed:
            raise UserError(
                f"the network is frozen, and {len(changed)} of its tensors changed by the end of epoch {self.epoch} "
                f"({', '.join(changed[:5])}); a part of it, such as a batch norm, does not follow eval()"
            )


class Trained(Classification):
    """A network in training mode with one head; its batch norms see the rows of all processes."""

    def __init__(self, backbone: nn.Module, *args: Any, **options: Any) -> None:
        if not any(True for _ in backbone.parameters()):
            raise UserError("the network has no weights: there is nothing to fit but a linear layer (gemel ... linear)")
        super().__init__(backbone, *args, **options)
        if world_size() > 1:
            synchronise(self.backbone)
        self.network = nn.Sequential(self.backbone.requires_grad_(True), self.heads).train()

    def inputs(self, views: Tensor) -> Tensor:
        """Return normalised images; a stand-in, which `loss` drops, for a process without a row of the batch.

        Not every transformer takes no rows. Batch norms must see none then, and the networks that have them take none.
        """
        if not len(views) and not any(isinstance(part, SyncedBatchNorm) for part in self.backbone.modules()):
            views = views.new_zeros(1, *views.shape[1:])
        return self._normalise(views)

    def check(self) -> None:
        """Let all processes judge with the first one's buffers: those of no batch norm may differ."""
        for buffer in self.backbone.buffers():
            buffer.copy_(from_first(buffer))


@torch.no_grad()
def _width(network: nn.Module, size: int, channels: int) -> int:
    try:
        features = network(torch.zeros(2, channels, size, size, device=device()))
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"the network takes no images of {size} x {size} pixels: {error}") from error
    if features.ndim != 2:
        raise UserError(f"the network gives {tuple(features.shape)} for two images; features are (2, width)")
    return features.shape[1]


def _optimizer(row: Fitting, heads: Heads, backbone: nn.Module) -> Optimizer:
    rates: list[tuple[nn.Module, float]] = list(zip(heads.layers, row.lr, strict=True))
    rates += [] if row.backbone_lr is None else [(backbone, row.backbone_lr)]
    groups = [{"params": list(part.parameters()), "base_lr": rate * row.scale} for part, rate in rates]
    if row.optimizer == "larc":
        return Lars(groups, 0.0, momentum=row.momentum, weight_decay=row.weight_decay)
    return SGD(groups, 0.0, momentum=row.momentum, nesterov=row.nesterov, weight_decay=row.weight_decay)
