"""Batch, and the loader: step -> batch is a pure function, so a run can start at any step by itself."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gemel.data.augment import Pixels, center, put, put_planes
from gemel.data.decode import Unreadable, load
from gemel.data.sources import ArraySource, Source
from gemel.data.views import draw, order
from gemel.errors import UserError
from gemel.recipes import GlyphViews, Views


class Batch(NamedTuple):
    """What a method sees at a step; a NamedTuple, so that the loader pins it and the trainer moves it as it is."""

    views: list[Tensor]
    """global crops, then local ones; each (B, 3, H, W)"""
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    """(B,) place in the data set"""
    label: Tensor
    """(B,) -1 where unknown"""


@dataclass(frozen=True)
class Plan:
    """What is drawn from a source at every step, on this process.

    Args:
        source: the images.
        views: recipe of the views.
        size: side of a view, pixels.
        seed: of the run.
        batch_size: images a step, over all processes.
        rank: this process takes the contiguous rows [rank · B / W, (rank + 1) · B / W) of a step.
        processes: W.
    """

    source: Source
    views: Views
    size: int
    seed: int
    batch_size: int
    rank: int = 0
    processes: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; the rest of its order is dropped."""
        return len(self.source) // self.batch_size

    def rows(self, step: int) -> NDArray[np.int64]:
        """Places in the data set of this process's part of a step."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        part = self.batch_size // self.processes
        start = batch * self.batch_size + self.rank * part
        return order(self.seed, epoch, len(self.source))[start : start + part]


class Drawn(NamedTuple):
    """A batch of uint8 views, and the files that had to be replaced on the way."""

    batch: Batch
    rejected: dict[int, str]


class Loader:
    """Batches from step `start` to the end of `epochs`.

    Args:
        plan: what is drawn.
        epochs: passes over the images.
        start: first step.
        workers: processes that prepare batches; 0: the calling one does.

    Attributes:
        rejected: reasons of the unreadable images met so far, by place.
    """

    def __init__(self, plan: Plan, *, epochs: int, start: int = 0, workers: int = 0) -> None:
        if plan.steps_per_epoch == 0:
            raise UserError(f"{len(plan.source)} images cannot fill a batch of {plan.batch_size}; lower --batch-size")
        if plan.batch_size % plan.processes:
            raise UserError(
                f"a batch of {plan.batch_size} cannot be shared by {plan.processes} processes; give a multiple"
            )
        self.plan = plan
        self.steps = range(start, epochs * plan.steps_per_epoch)
        self.workers = workers
        self.rejected: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch]:
        for drawn in _loader(_Steps(self.plan), self.steps, self.workers):
            self.rejected.update(drawn.rejected)
            yield drawn.batch


class InferenceLoader:
    """The inference crops of all images in order; unreadable ones are left out and told.

    Yields (views (b, 3, size, size) uint8, index (b,)).
    """

    def __init__(
        self,
        source: Source,
        *,
        size: int,
        glyph: bool,
        batch_size: int = 256,
        workers: int = 0,
        indices: Sequence[int] | None = None,
    ) -> None:
        self.indices = np.arange(len(source)) if indices is None else np.asarray(indices, np.int64)
        self.batch_size = batch_size
        self.workers = workers
        self.rejected: dict[int, str] = {}
        self._crops = _Crops(source, self.indices, size, glyph, batch_size)

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for drawn in _loader(self._crops, range(len(self)), self.workers):
            self.rejected.update(drawn.rejected)
            if len(drawn.batch.index):
                yield drawn.batch.views[0], drawn.batch.index


def draw_views(plan: Plan, epoch: int, indices: Sequence[int]) -> Drawn:
    """The views of the images at `indices`, as training would see them in `epoch`.

    An unreadable image is replaced by the next readable one.

    Raises:
        UserError: no image can be read.
    """
    rejected: dict[int, str] = {}
    views = [_empty(len(indices), size) for size in plan.views.sizes(plan.size)]
    places = torch.empty(len(indices), dtype=torch.int64)
    for row, wanted in enumerate(indices):
        index, image = _readable(plan.source, int(wanted), rejected)
        places[row] = index
        put_views(plan.views, image, [out[row] for out in views], seed=plan.seed, epoch=epoch, index=index)
    labels = plan.source.labels
    label = torch.full_like(places, -1) if labels is None else torch.from_numpy(labels[places.numpy()])
    return Drawn(Batch([torch.from_numpy(view) for view in views], places, label), rejected)


def put_views(views: Views, image: Pixels, out: Sequence[Pixels], *, seed: int, epoch: int, index: int) -> None:
    """Draw and apply the views of one image into `out`, one (3, size, size) each."""
    height, width = image.shape[:2]
    for number, view in enumerate(out):
        size = view.shape[-1]
        numbers = draw(views, seed=seed, epoch=epoch, index=index, view=number, height=height, width=width, size=size)
        put(image, numbers, view)


def default_workers(source: Source) -> int:
    """Workers of a pass over the images: none for images in memory or few, else one for each core but one."""
    few = isinstance(source, ArraySource) or len(source) < 512
    return 0 if few else max(1, min(8, len(os.sched_getaffinity(0)) - 1))


class _Steps(Dataset[Drawn]):
    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __getitem__(self, step: int) -> Drawn:
        return draw_views(self.plan, step // self.plan.steps_per_epoch, self.plan.rows(step).tolist())


class _Crops(Dataset[Drawn]):
    def __init__(self, source: Source, indices: NDArray[np.int64], size: int, glyph: bool, batch_size: int) -> None:
        self.source, self.indices, self.size, self.glyph, self.batch_size = source, indices, size, glyph, batch_size

    def __getitem__(self, number: int) -> Drawn:
        wanted = self.indices[number * self.batch_size : (number + 1) * self.batch_size]
        crops = _empty(len(wanted), self.size)
        rejected: dict[int, str] = {}
        kept: list[int] = []
        for index in wanted.tolist():
            try:
                image = load(self.source, index)
            except Unreadable as error:
                rejected[index] = error.reason
                continue
            put_planes(center(image, self.size, glyph=self.glyph), crops[len(kept)])
            kept.append(index)
        views = torch.from_numpy(crops[: len(kept)])
        return Drawn(Batch([views], torch.tensor(kept, dtype=torch.int64), torch.empty(0)), rejected)


def is_glyph(views: Views) -> bool:
    """Whether images are taken as a whole (glyphs) or by their middle (photos) at inference."""
    return isinstance(views, GlyphViews)


def _loader(dataset: Dataset[Drawn], numbers: range, workers: int) -> DataLoader[Drawn]:
    # A whole batch is one item: workers hand over few large tensors, never one for each image.
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=2 if workers else None,
    )


def _readable(source: Source, wanted: int, rejected: dict[int, str]) -> tuple[int, Pixels]:
    reason = ""
    for offset in range(len(source)):
        index = (wanted + offset) % len(source)
        try:
            return index, load(source, index)
        except Unreadable as error:
            rejected[index] = reason = error.reason
    raise UserError(f"none of the {len(source)} images of {source.name} can be read; the last: {reason}")


def _empty(rows: int, size: int) -> Pixels:
    return np.empty((rows, 3, size, size), np.uint8)
