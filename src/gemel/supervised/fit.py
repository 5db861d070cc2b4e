"""Supervised fitting: heads on a frozen network, side by side, or a network and its head together."""

from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.optim import SGD, Optimizer

from gemel.data.sources import Source
from gemel.distributed import any_of, rank, world_size
from gemel.engine.checkpoints import fingerprint
from gemel.engine.optimizers import Lars
from gemel.errors import Diverged, Interrupted, UserError
from gemel.supervised.images import Labelled, Plan, Step, Steps, classes_of
from gemel.supervised.recipes import Fitting
from gemel.supervised.state import Signals, StateFile, listing
from gemel.supervised.task import Fittable, Frozen, Precision, Trained, own_device
from gemel.supervised.test_set import Judge

Progress = Callable[[int, int], None]
"""(steps done, steps) after each step"""

History = dict[str, list[list[dict[str, float]]]]
"""by test set: epochs, heads, metrics"""


KEEP = 60.0
"""seconds after which a fit's state is written, also within an epoch"""


class Fitted(NamedTuple):
    """What a fit made."""

    network: nn.Module
    """as it was given, fitted unless it was frozen; on the CPU, in evaluation mode"""
    heads: list[nn.Linear]
    """one for each rate; on the CPU"""
    history: History
    facts: dict[str, Any]
    """numbers that follow from the recipe and the images"""


def fit(
    network: nn.Module,
    facts: Mapping[str, Any],
    fitting: Fitting,
    train: Source,
    tests: Mapping[str, Source],
    *,
    folder: Path,
    seed: int = 0,
    precision: Precision = "32",
    tell: Progress | None = None,
) -> Fitted:
    """Fit, and judge by each test set after every epoch.

    The mean cross entropy of a batch is stepped on by SGD or LARC. A frozen network stays in evaluation mode without
    gradients; several heads on it don't touch one another, so each is what it would be alone. A network that is fitted
    is in training mode; its batch norms see the rows of all processes, equally many of each and at least two: what is
    over of the last batch is left out.
    The same seed gives the same heads, bit for bit, whether a signal interrupted the fit or not: the same call goes on
    from FOLDER/evaluations/.fit-HASH.ckpt.

    Args:
        network: normalised floats (B, 3, H, W) to (B, width). One that is not frozen is changed: give a copy.
        facts: as in backbone.json: size, mean, std, views.
        fitting: the recipe.
        train: images with labels.
        tests: images with labels by name; all of one set of classes.
        folder: the subject's.
        seed: of the heads, the order and the views.
        precision: bf16: the network by autocast.
        tell: told after each step.

    Raises:
        UserError: labels that do not allow it, too few images, features that are not finite, a frozen network that
            changed.
        Interrupted: by SIGINT or SIGTERM, state kept.
        Diverged: no head is finite any more.
    """
    devices = [own_device()] if own_device().type == "cuda" else []
    signals = Signals()
    try:
        with torch.random.fork_rng(devices), signals.taken():
            fitter = _Fitter(network, facts, fitting, train, tests, seed, precision)
            state = StateFile(folder, fitter.question)
            fitter.restore(state.read())
            _run(fitter, state, signals, tell)
            return fitter.fitted()
    finally:
        network.cpu().eval()


def summary(epochs: list[dict[str, float]]) -> dict[str, float]:
    """Metrics after the last epoch; best_...: of the epoch with the highest top1 on the same test set, the first one.

    Args:
        epochs: a head's metrics after each epoch.

    >>> found = summary([{"top1": 0.5}, {"top1": 0.7}, {"top1": 0.6}])
    >>> found == {"top1": 0.6, "best_top1": 0.7, "best_epoch": 2}
    True
    """
    best = max(range(len(epochs)), key=lambda epoch: (epochs[epoch]["top1"], -epoch))
    marked = {f"best_{name}": value for name, value in epochs[best].items() if name in ("top1", "top5")}
    return {**epochs[-1], **marked, "best_epoch": best + 1}


class _Fitter:
    def __init__(
        self,
        network: nn.Module,
        facts: Mapping[str, Any],
        fitting: Fitting,
        train: Source,
        tests: Mapping[str, Source],
        seed: int,
        precision: Precision,
    ) -> None:
        kind = Frozen if fitting.backbone_lr is None else Trained
        if len(fitting.lr) > 1 and kind is Trained:
            raise UserError(f"{len(fitting.lr)} rates for a network that is fitted; give one --lr")
        self.fitting, self.seed = fitting, seed
        images, judged = Labelled.of(train), {name: Labelled.of(test) for name, test in tests.items()}
        classes = classes_of(images, list(judged.values()))
        self.plan = Plan.of(images, fitting, facts, seed=seed, least=kind.least)
        self.judges = {name: Judge(one, facts) for name, one in judged.items()}
        self.question = {
            "network": fingerprint(network),
            "facts": dict(facts),
            "fitting": fitting.model_dump(),
            "images": listing(images),
            "tests": {name: listing(one) for name, one in judged.items()},
            "seed": seed,
            "precision": precision,
            "processes": world_size(),
        }
        self.model: Fittable = kind(
            network, facts, classes=classes, heads=len(fitting.lr), seed=seed, precision=precision
        )
        self.optimizer = _optimizer(fitting, self.model)
        self.steps = fitting.epochs * self.plan.steps_per_epoch
        self.done = 0
        self.history: History = {name: [] for name in tests}
        self.unreadable = torch.zeros(len(images), dtype=torch.uint8)

    def step(self, step: Step) -> None:
        """One step of the optimiser, at the rate of its epoch."""
        epoch, number = divmod(self.done, self.plan.steps_per_epoch)
        factor = self.fitting.rate_factor(epoch, number, self.plan.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        # Dropout draws from (seed, step, process): a resumed fit needs no state of it.
        torch.manual_seed(int(np.random.SeedSequence([self.seed, self.done, rank()]).generate_state(1)[0]))
        self.model.gradients(step.views, step.labels.to(self.model.device), step.count)
        self.optimizer.step()
        self.done += 1
        rows = np.searchsorted(self.plan.images.places, list(step.rejected))
        self.unreadable[torch.from_numpy(rows)] = 1

    def end_epoch(self) -> None:
        """Judge.

        Raises:
            UserError: a frozen network changed.
            Diverged: no head is finite any more.
        """
        epoch = self.done // self.plan.steps_per_epoch
        finite = [all(bool(one.isfinite().all()) for one in head.parameters()) for head in self.model.heads]
        if not any(finite):
            raise Diverged(f"the head became no number in epoch {epoch}; try a smaller --lr")
        with self.model.judged(epoch):
            for name, judge in self.judges.items():
                self.history[name].append(judge.scores(self.model.scores, len(finite), self.model.device))
        if world_size() > 1:
            met = self.unreadable.to(self.model.device)
            dist.all_reduce(met, dist.ReduceOp.MAX)
            self.unreadable = met.cpu()

    def state(self) -> dict[str, Any]:
        """Tensors, numbers and strings that `restore` goes on from."""
        frozen = isinstance(self.model, Frozen)
        return {
            "done": self.done,
            "network": {} if frozen else self.model.network.state_dict(),
            "heads": self.model.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "unreadable": self.unreadable,
        }

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a state; None: from the start."""
        if state is None:
            return
        if state["network"]:
            self.model.network.load_state_dict(state["network"])
        self.model.heads.load_state_dict(state["heads"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done, self.history, self.unreadable = state["done"], state["history"], state["unreadable"]

    def fitted(self) -> Fitted:
        """The outcome, on the CPU."""
        row, scale = self.fitting, self.fitting.scale
        frozen, head = isinstance(self.model, Frozen), cast(nn.Linear, self.model.heads[0])
        facts = {
            "classes": head.out_features,
            "head_width": head.in_features,
            "images": len(self.plan.images),
            "rates": [rate * scale for rate in row.lr],
            "backbone_rate": None if row.backbone_lr is None else row.backbone_lr * scale,
            "last_batch": _last_batch(len(self.plan.images) % row.batch_size, self.plan.rest),
            "batch_norm": "running statistics" if frozen else "of the whole batch, over all processes",
            "processes": world_size(),
            "seed": self.seed,
            "precision": self.model.precision,
            "unreadable": int(self.unreadable.sum()),
            "views": self.plan.views.model_dump(mode="json"),
        }
        return Fitted(self.model.network, [cast(nn.Linear, one) for one in self.model.heads.cpu()], self.history, facts)


def _last_batch(images: int, fitted: int) -> str:
    if not images:
        return "full"
    if 0 < fitted < images:
        return f"{images} images, {fitted} fitted on: as many by each process"
    return f"{images} images, {'fitted on' if fitted else 'left out'}"


def _run(fitter: _Fitter, state: StateFile, signals: Signals, tell: Progress | None) -> None:
    kept = monotonic()
    for step in Steps(fitter.plan, epochs=fitter.fitting.epochs, start=fitter.done):
        fitter.step(step)
        if tell is not None:
            tell(fitter.done, fitter.steps)
        ended = fitter.done % fitter.plan.steps_per_epoch == 0
        if ended:
            fitter.end_epoch()
        stopped = any_of(signals.asked)
        if ended or stopped or (rank() == 0 and monotonic() - kept > KEEP):
            state.write(fitter.state())
            kept = monotonic()
        if stopped:
            raise Interrupted(f"interrupted after step {fitter.done} of {fitter.steps}; the same command continues it")
    state.remove()


def _optimizer(row: Fitting, model: Fittable) -> Optimizer:
    rates = row.lr if row.backbone_lr is None else (*row.lr, row.backbone_lr)
    groups = [
        {"params": parameters, "base_lr": rate * row.scale}
        for parameters, rate in zip(model.groups(), rates, strict=True)
    ]
    if row.optimizer == "larc":
        return Lars(groups, 0.0, momentum=row.momentum, weight_decay=row.weight_decay)
    return SGD(groups, 0.0, momentum=row.momentum, nesterov=row.nesterov, weight_decay=row.weight_decay)
