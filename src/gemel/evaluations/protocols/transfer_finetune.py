"""transfer-finetune: whole networks fitted to other datasets, rate and decay chosen on validation images."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from gemel.data.downstream.parts import Downstream
from gemel.data.sources import Source
from gemel.distributed import rank, world_size
from gemel.engine.processes import first_says
from gemel.errors import UserError
from gemel.evaluations.base import Evaluation, Progress, Subject
from gemel.evaluations.feature_cache import key_of, tensors_of
from gemel.evaluations.protocols.transfer import each_set, named
from gemel.hashing import hash_of_question
from gemel.runs.files import write_text
from gemel.settings.recipes import Count
from gemel.supervised.fit import Fitted, fit
from gemel.supervised.recipes import Fitting, Precision

GridName = Literal["ericsson", "byol", "random"]


class Grid(NamedTuple):
    """Numbers of a sweep."""

    source: str
    steps: int
    batch_size: int
    rates: tuple[float, ...]
    decays: tuple[float, ...]
    """weight decays, before they are divided by the rate"""


def _spaced(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(np.logspace(low, high, count).tolist())


GRIDS: dict[str, Grid] = {
    "ericsson": Grid("Ericsson et al. 2021", 5_000, 64, _spaced(-4, -1, 4), (0.0, *_spaced(-6, -3, 4))),
    "byol": Grid("SimCLR B.8.1, BYOL appendix D", 20_000, 256, _spaced(-4, -1, 7), (0.0, *_spaced(-6, -3, 7))),
    "random": Grid("BYOL appendix D, random start", 40_000, 256, _spaced(-3, 0, 7), _spaced(-5, -1.5, 8)),
}


class TransferFinetune(Evaluation):
    """Fit the network and a new linear layer to a dataset with SGD, swept over rate and decay, then refitted.

    Nesterov momentum 0.9; the rate falls as a cosine of the step, without warm-up; random crops and flips; one rate for
    all parameters, whose decay is the grid's divided by the rate. Batch norms keep max(1 - 10/s, 0.9) of their running
    statistics, s being the steps of an epoch. Datasets whose images hold several classes are not fitted.

    Args:
        data: names of datasets, separated by commas
        root: the dataset's folder, or the one that holds all of them
        grid: whose numbers: ericsson, byol, or random for random weights
        steps: of each fit; left out: the grid's
        batch_size: images per step; left out: the grid's
        lr: learning rates; left out: the grid's
        weight_decay: before it is divided by the rate; left out: the grid's
        seed: random seed of the validation images, the layer, the order and the crops
        precision: bf16: the network runs in bfloat16
    """

    takes_images = False

    def __init__(
        self,
        *,
        data: str = "",
        root: Path | None = None,
        grid: GridName = "ericsson",
        steps: Count | None = None,
        batch_size: Count | None = None,
        lr: tuple[PositiveFloat, ...] = (),
        weight_decay: tuple[NonNegativeFloat, ...] = (),
        seed: Annotated[int, Field(ge=0, lt=2**32)] = 0,
        precision: Precision = "32",
    ) -> None:
        self.names, self.root = named(data, root)
        if "voc2007" in self.names:
            raise UserError("voc2007 has images of several classes, which are not fine-tuned; name other --data")
        self.name, given = grid, GRIDS[grid]
        self.grid = Grid(
            given.source,
            steps or given.steps,
            batch_size or given.batch_size,
            lr or given.rates,
            weight_decay or given.decays,
        )
        self.seed = seed
        self.precision: Precision = precision

    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return each dataset's metric after the last step: SET_top1 or SET_mean_per_class."""
        metrics, details = each_set(self.names, self.root, self.seed, lambda one: self._judge(subject, one, tell))
        return metrics, {
            "data": ",".join(self.names),
            "test": "of each set",
            "labels": "own",
            "protocol_source": self.grid.source,
            "grid": self.name,
            "steps": self.grid.steps,
            "batch_size": self.grid.batch_size,
            "rates": list(self.grid.rates),
            "decays": list(self.grid.decays),
            "decay": "divided by the rate",
            "optimizer": "SGD, Nesterov momentum 0.9, cosine of the step to 0, no warm-up",
            "head": "linear, weights from N(0, 0.01²), bias 0",
            "interpolation": "bicubic",
            "statistics_kept": "max(1 - 10/s, 0.9) of a batch norm's running statistics, s steps an epoch",
            "seed": self.seed,
            "precision": self.precision,
            "sets": details,
        }

    def _judge(self, subject: Subject, data: Downstream, tell: Progress | None) -> tuple[float, dict[str, Any]]:
        metric = data.described.metric
        sweep = [(rate, decay) for rate in self.grid.rates for decay in self.grid.decays]
        scores = [self._score(subject, data.train, data.val, one, tell)[0][metric] for one in sweep]
        best = max(range(len(sweep)), key=lambda index: scores[index])  # the first of equal ones
        found, facts = self._score(subject, data.fitted, data.test, sweep[best], tell)
        return found[metric], {
            "metric": metric,
            "classes": len(data.label_names),
            "images": [len(part) for part in (data.train, data.val, data.test)],
            "published_images": list(data.described.counts),
            "judged": int(found["judged"]),
            "val": data.val_rule,
            "lr": sweep[best][0],
            "weight_decay": sweep[best][1] / sweep[best][0],
            "val_score": scores[best],
            **{name: facts[name] for name in ("views", "batch_norm", "processes", "unreadable")},
        }

    def _score(
        self, subject: Subject, train: Source, test: Source, chosen: tuple[float, float], tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return metrics and facts of one fit, kept in FOLDER/cache/finetune so that an interrupted sweep continues."""
        tensors = tensors_of(subject)
        keys = [key_of(tensors, subject.facts, part) for part in (train, test)]
        labels = [[] if part.labels is None else part.labels.tolist() for part in (train, test)]
        numbers = [*chosen, self.grid.steps, self.grid.batch_size, self.seed, self.precision, world_size()]
        file = subject.folder / "cache/finetune" / f"{hash_of_question([keys, labels, numbers])}.json"
        kept = first_says(_kept(file))
        if kept is not None:
            return kept
        fitted = self._fit(subject, train, test, chosen, tell)
        found = fitted.history["test"][-1][0], fitted.facts
        if rank() == 0:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(found))
        return found

    def _fit(
        self, subject: Subject, train: Source, test: Source, chosen: tuple[float, float], tell: Progress | None
    ) -> Fitted:
        rate, decay = chosen
        size, steps = self.grid.batch_size, self.grid.steps
        fitting = Fitting(
            source=self.grid.source,
            epochs=1,
            batch_size=size,
            lr=(rate,),
            backbone_lr=rate,
            weight_decay=decay / rate,
            nesterov=True,
            schedule="cosine_steps",
            interpolation="bicubic",
        )
        network = deepcopy(subject.network)
        keep_statistics(network, -(-len(train) // size))
        # All steps are one epoch of repeated images: a network is judged once, at the end.
        return fit(
            network,
            subject.facts,
            fitting,
            train.subset(repeated(len(train), steps * size, self.seed)),
            {"test": test},
            folder=subject.folder,
            seed=self.seed,
            precision=self.precision,
            tell=tell,
        )


def _kept(file: Path) -> tuple[dict[str, float], dict[str, Any]] | None:
    """Return what a fit left; None where there is nothing, or it is damaged."""
    try:
        metrics, facts = json.loads(file.read_text(encoding="utf-8"))
        return (metrics, facts) if {"judged"} <= metrics.keys() and {"views", "unreadable"} <= facts.keys() else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def repeated(count: int, wanted: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return indices of `wanted` images of `count`, each equally often; the remainder is drawn."""
    turned = np.random.default_rng(seed).permutation(count)
    return np.resize(turned, wanted).astype(np.int64)


def keep_statistics(network: nn.Module, steps_per_epoch: int) -> None:
    """Let batch norms keep max(1 - 10/s, 0.9) of their running statistics at each step.

    >>> network = nn.BatchNorm1d(3)
    >>> keep_statistics(network, 1000)
    >>> network.momentum
    0.01
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = min(10 / steps_per_epoch, 0.1)
