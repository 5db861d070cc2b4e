"""What a supervised fit sees: labelled images, one view of each at every epoch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gemel.data.batches import default_workers, put_views
from gemel.data.decode import Unreadable, load
from gemel.data.sources import Source
from gemel.data.views import order
from gemel.distributed import rank, world_size
from gemel.errors import UserError
from gemel.settings.recipes import Views
from gemel.supervised.recipes import Fitting


@dataclass(frozen=True)
class Labelled:
    """The images of a source whose label is known.

    Args:
        source: the images.
        places: (N,) their places in it.
        labels: (N,) of them.
    """

    source: Source
    places: NDArray[np.int64]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, source: Source) -> Self:
        """The labelled images of a source.

        Raises:
            UserError: there are no labels, or not one for each image.
        """
        labels = source.labels
        if labels is None or not (labels >= 0).any():
            raise UserError(
                f"{source.name} has no labels; give --labels folders (the first folder below it) or --labels FILE.csv "
                "(path,label)"
            )
        if len(labels) != len(source):
            raise UserError(f"{source.name} has {len(source)} images and {len(labels)} labels; give one for each image")
        places = np.flatnonzero(labels >= 0)
        return cls(source, places, labels[places].astype(np.int64))

    def __len__(self) -> int:
        return len(self.places)


def classes_of(train: Labelled, tests: Sequence[Labelled]) -> int:
    """How many classes a head tells apart: those that the labels' names name, else the highest label and one.

    Raises:
        UserError: one class alone, classes without a training image, or tests with other classes.
    """
    names = train.source.label_names
    classes = len(names) or int(train.labels.max()) + 1
    if classes < 2:
        raise UserError(f"{train.source.name} has one class alone; to tell apart takes two or more")
    empty = np.setdiff1d(np.arange(classes), train.labels)
    if len(empty):
        shown = ", ".join(names[one] if names else str(one) for one in empty[:5])
        raise UserError(
            f"{len(empty)} of {classes} classes have no image to fit on in {train.source.name}: {shown}"
            f"{' ...' if len(empty) > 5 else ''}; give more images, or labels of those that there are"
        )
    for test in tests:
        there = len(test.source.label_names) or int(test.labels.max()) + 1
        if (names and test.source.label_names not in ([], names)) or there > classes or test.labels.max() >= classes:
            raise UserError(
                f"{train.source.name} has {classes} classes, and {test.source.name} has {there} or others; both "
                "must have the same ones"
            )
    return classes


class Step(NamedTuple):
    """This process's part of a batch."""

    views: Tensor
    """(b, 3, size, size) uint8; b may be 0 where processes share few images"""
    labels: Tensor
    """(b,)"""
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    """images of the whole batch, over all processes"""
    rejected: dict[int, str]
    """reasons of the unreadable images that others stand for, by place"""


@dataclass(frozen=True)
class Plan:
    """What is fitted on at every step: step -> batch is a pure function, so a fit can start at any step.

    Args:
        images: what is learned.
        views: recipe of the view.
        size: side of a view, pixels.
        seed: of the fit.
        batch_size: images a step, over all processes.
        rest: images of the last, smaller batch of an epoch; 0: it is left out.
        rank: this process takes the contiguous rows [rank · B / W, (rank + 1) · B / W) of a step.
        processes: W.
    """

    images: Labelled
    views: Views
    size: int
    seed: int
    batch_size: int
    rest: int
    rank: int
    processes: int

    @classmethod
    def of(cls, images: Labelled, fitting: Fitting, facts: Mapping[str, Any], *, seed: int, least: int) -> Self:
        """A plan whose last batch is kept if every process gets `least` images of it.

        Where `least` is above 0 every process takes equally many: of the last batch those left over are cut.

        Raises:
            UserError: fewer images than a batch, or a batch that the processes can't share.
        """
        batch_size, processes = fitting.batch_size, world_size()
        if len(images) < batch_size:
            raise UserError(
                f"{len(images)} labelled images of {images.source.name} cannot fill a batch of {batch_size}; give "
                f"--batch-size {len(images)} or less"
            )
        if batch_size // processes < least:
            raise UserError(
                f"a batch of {batch_size} leaves {batch_size // processes} images to each of {processes} processes, "
                f"and batch norm takes {least}; give --batch-size {least * processes} or more"
            )
        if least and batch_size % processes:
            raise UserError(
                f"{processes} processes can't share a batch of {batch_size} equally, and batch norm takes equally many "
                f"images of each; give --batch-size {batch_size - batch_size % processes}"
            )
        rest = len(images) % batch_size
        rest -= rest % processes if least else 0
        kept = 0 if fitting.drop_last or rest // processes < least else rest
        views, size = fitting.views(facts), int(facts["size"])
        return cls(images, views, size, seed, batch_size, kept, rank(), processes)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return len(self.images) // self.batch_size + (self.rest > 0)

    def draw(self, step: int) -> Step:
        """The views of a step, whole or this process's contiguous part of it."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        start = batch * self.batch_size
        count = self.rest if start + self.batch_size > len(self.images) else self.batch_size
        first, last = (start + count * part // self.processes for part in (self.rank, self.rank + 1))
        rows = order(self.seed, epoch, len(self.images))[first:last]
        views = np.empty((len(rows), 3, self.size, self.size), np.uint8)
        labels = np.empty(len(rows), np.int64)
        rejected: dict[int, str] = {}
        for row, wanted in enumerate(rows.tolist()):
            found, pixels = self._readable(wanted, rejected)
            labels[row] = self.images.labels[found]
            place = int(self.images.places[found])
            put_views(self.views, pixels, [views[row]], seed=self.seed, epoch=epoch, index=place)
        return Step(torch.from_numpy(views), torch.from_numpy(labels), count, rejected)

    def _readable(self, wanted: int, rejected: dict[int, str]) -> tuple[int, NDArray[np.uint8]]:
        """The labelled image of that row; if it can't be read the next one of its class."""
        try:
            return wanted, load(self.images.source, int(self.images.places[wanted]))
        except Unreadable as error:
            rejected[int(self.images.places[wanted])] = reason = error.reason
        same = np.flatnonzero(self.images.labels == self.images.labels[wanted])
        for row in np.roll(same, -int(np.searchsorted(same, wanted)))[1:].tolist():
            place = int(self.images.places[row])
            try:
                return row, load(self.images.source, place)
            except Unreadable as error:
                rejected[place] = reason = error.reason
        path = self.images.source.path(int(self.images.places[wanted]))
        raise UserError(f"no image of the class of {path} can be read; the last: {reason}")


class Steps:
    """Batches of a plan from step `start` to the end of `epochs`."""

    def __init__(self, plan: Plan, *, epochs: int, start: int) -> None:
        self._drawn = _Drawn(plan)
        self._steps = range(start, epochs * plan.steps_per_epoch)
        self._workers = default_workers(plan.images.source)

    def __iter__(self) -> Iterator[Step]:
        # A whole batch is one item: workers hand over few large tensors, never one for each image.
        yield from DataLoader(
            self._drawn,
            batch_size=None,
            sampler=self._steps,
            num_workers=self._workers,
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=2 if self._workers else None,
        )


class _Drawn(Dataset[Step]):
    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __getitem__(self, step: int) -> Step:
        return self.plan.draw(step)
