"""What a supervised fit sees: labelled images, one view of each at every epoch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemel.data.batches import default_workers
from gemel.data.decode import Unreadable
from gemel.data.drawing import put_views
from gemel.data.image_cache import ImageCache
from gemel.data.pixel_values import Pixels
from gemel.data.sources import Source
from gemel.data.threaded_loader import Rows, assembled
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
        indices: (N,) where they are in it.
        labels: (N,) of them.
    """

    source: Source
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, source: Source) -> Self:
        """Select the labelled images of a source.

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
        indices = np.flatnonzero(labels >= 0)
        return cls(source, indices, labels[indices].astype(np.int64))

    def __len__(self) -> int:
        return len(self.indices)


def classes_of(train: Labelled, tests: Sequence[Labelled]) -> int:
    """Return the number of classes that a head tells apart: as many as class names, else the highest label and one.

    Raises:
        UserError: one class alone, classes without a training image, or tests with other classes.
    """
    names = train.source.label_names
    classes = len(names) or int(train.labels.max()) + 1
    if classes < 2:
        raise UserError(f"{train.source.name} has one class alone; a classifier needs two or more")
    empty = np.setdiff1d(np.arange(classes), train.labels)
    if len(empty):
        shown = ", ".join(names[one] if names else str(one) for one in empty[:5])
        raise UserError(
            f"{len(empty)} of {classes} classes have no image to fit on in {train.source.name}: {shown}"
            f"{' ...' if len(empty) > 5 else ''}; give more images, or leave out the labels of these classes"
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
    """(b, C, size, size), not normalised; b may be 0 where processes share few images"""
    labels: Tensor
    """(b,)"""
    indices: Tensor
    """(b,) of the images in their source"""
    images: int
    """in the whole batch, over all processes"""


@dataclass(frozen=True)
class Plan:
    """What is fitted on at every step: a pure function of the step, so that a fit can start at any step.

    Of a batch each of W processes takes the contiguous rows [rank · B / W, (rank + 1) · B / W), rounded down.

    Args:
        images: what is learned.
        views: recipe of the view.
        size: side of a view, pixels.
        seed: random seed of the order and the views.
        batch_size: images a step, over all processes.
        rest: images of the last, smaller batch of an epoch; 0: it is left out.
    """

    images: Labelled
    views: Views
    size: int
    seed: int
    batch_size: int
    rest: int

    @classmethod
    def of(cls, images: Labelled, fitting: Fitting, facts: Mapping[str, Any], *, seed: int) -> Self:
        """Plan a fit by a recipe.

        Raises:
            UserError: fewer images than a batch, or a batch of one image for batch norm.
        """
        size = fitting.batch_size
        if len(images) < size:
            raise UserError(
                f"{len(images)} labelled images of {images.source.name} cannot fill a batch of {size}; give "
                f"--batch-size {len(images)} or less"
            )
        least = 1 if fitting.backbone_lr is None else 2  # batch norm has no variance of one image
        if size < least:
            raise UserError(f"a batch of {size} has no variance for batch norm; give --batch-size {least} or more")
        rest = len(images) % size
        kept = 0 if fitting.drop_last or rest < least else rest
        return cls(images, fitting.views(facts), int(facts["size"]), seed, size, kept)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return len(self.images) // self.batch_size + (self.rest > 0)

    def batches(self, steps: range, rejected: dict[int, str]) -> Iterator[Step]:
        """Yield this process's part of the batches of some steps.

        Args:
            steps: counted over all epochs.
            rejected: is given the reasons of the unreadable images, by index; others of their class stand for them.

        Raises:
            UserError: no image of a class can be read.
        """
        source, cache = self.images.source, ImageCache(self.images.source)
        for drawn in assembled(lambda step: _Drawing(self, step, cache), steps, default_workers(source)):
            rejected.update(drawn.rejected)
            yield drawn.step()


class _Drawing(Rows):
    def __init__(self, plan: Plan, step: int, cache: ImageCache) -> None:
        self.plan, self.cache = plan, cache
        self.epoch, batch = divmod(step, plan.steps_per_epoch)
        start = batch * plan.batch_size
        self.count = min(plan.batch_size, len(plan.images) - start)
        first, last = (start + self.count * part // world_size() for part in (rank(), rank() + 1))
        self.rows = order(plan.seed, self.epoch, len(plan.images))[first:last].copy()
        super().__init__(len(self.rows), [plan.size], plan.images.source.decoding)

    def fill(self, rows: range) -> None:
        """Draw the views; self.rows then tells which images are seen."""
        plan = self.plan
        for row in rows:
            self.rows[row], pixels = self._readable(int(self.rows[row]))
            index = int(plan.images.indices[self.rows[row]])
            put_views(plan.views, pixels, self.row(row), seed=plan.seed, epoch=self.epoch, index=index)

    def step(self) -> Step:
        images = self.plan.images
        labels, indices = (torch.from_numpy(one[self.rows]) for one in (images.labels, images.indices))
        return Step(self.views[0], labels, indices, self.count)

    def _readable(self, wanted: int) -> tuple[int, Pixels]:
        """Return the labelled image of a row; if it can't be read the next one of its class."""
        reason, images = "", self.plan.images
        for row in self._candidates(wanted):
            index = int(images.indices[row])
            try:
                return row, self.cache.load(index)
            except Unreadable as error:
                self.rejected[index] = reason = error.reason
        path = images.source.path(int(images.indices[wanted]))
        raise UserError(f"no image of the class of {path} can be read; the last: {reason}")

    def _candidates(self, wanted: int) -> Iterator[int]:
        yield wanted
        labels = self.plan.images.labels
        same = np.flatnonzero(labels == labels[wanted])
        yield from np.roll(same, -int(np.searchsorted(same, wanted)))[1:].tolist()
