"""Batch, and the loader: step -> batch is a pure function, so a run can start at any step by itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemel.data import on_device
from gemel.data.augment import Pixels, center, crop, put, put_planes
from gemel.data.decode import Unreadable, load
from gemel.data.image_cache import Kept
from gemel.data.listing import printable
from gemel.data.sources import ArraySource, Source
from gemel.data.threaded_loader import Rows, assembled
from gemel.data.views import Draw, PhotoDraw, draw, order
from gemel.errors import UserError
from gemel.launcher import cores
from gemel.settings.recipes import GlyphViews, PhotoViews, Views


class Batch(NamedTuple):
    """What a method sees at a step; a NamedTuple, so that the loader pins it and the trainer moves it as it is."""

    views: list[Tensor]
    """global crops, then local ones; each (B, 3, H, W)"""
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    """(B,) place in the data set"""
    label: Tensor
    """(B,) -1 where unknown"""


class Unfinished(NamedTuple):
    """A batch whose views are resized crops, and what is still to be done to them, on the device they are moved to."""

    batch: Batch
    finishes: list[on_device.Finishes]
    """of each view number"""

    def finished(self) -> Batch:
        """The batch as a method sees it."""
        views = [on_device.finish(*one) for one in zip(self.batch.views, self.finishes, strict=True)]
        return self.batch._replace(views=views)


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
        on_device: the loader leaves what comes after the resize of photos to whoever takes its batches.
    """

    source: Source
    views: Views
    size: int
    seed: int
    batch_size: int
    rank: int = 0
    processes: int = 1
    on_device: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; the rest of its order is dropped."""
        return len(self.source) // self.batch_size

    @property
    def leaves_finish(self) -> bool:
        """Whether batches come as `Unfinished`; glyphs are one sampling, and never do."""
        return self.on_device and isinstance(self.views, PhotoViews)

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
        workers: threads that prepare batches; 0: the calling one does.
        memory: bytes of decoded images that are kept for later epochs; None: see `kept`.

    Attributes:
        rejected: reasons of the unreadable images met so far, by place.
    """

    def __init__(self, plan: Plan, *, epochs: int, start: int = 0, workers: int = 0, memory: int | None = None) -> None:
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
        self._kept = Kept(plan.source, memory)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch | Unfinished]:
        for drawn in assembled(self._begin, self.steps, self.workers):
            self.rejected.update(drawn.rejected)
            yield Unfinished(drawn.batch(), drawn.finishes()) if self.plan.leaves_finish else drawn.batch()

    def _begin(self, step: int) -> "_Drawing":
        plan = self.plan
        epoch, rows = step // plan.steps_per_epoch, plan.rows(step).tolist()
        return _Drawing(plan, self._kept, epoch, rows, finish=not plan.leaves_finish)


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
        self._source, self._size, self._glyph = source, size, glyph

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for crops in assembled(self._begin, range(len(self)), self.workers):
            self.rejected.update(crops.rejected)
            if crops.is_read.any():
                yield crops.read()

    def _begin(self, number: int) -> "_Crops":
        wanted = self.indices[number * self.batch_size : (number + 1) * self.batch_size]
        return _Crops(self._source, wanted, self._size, glyph=self._glyph)


def draw_views(plan: Plan, epoch: int, indices: Sequence[int]) -> Drawn:
    """The views of the images at `indices`, as training would see them in `epoch`.

    An unreadable image is replaced by the next readable one.

    Raises:
        UserError: no image can be read.
    """
    drawing = _Drawing(plan, Kept(plan.source, 0), epoch, indices)
    drawing.fill(range(len(drawing)))
    return Drawn(drawing.batch(), drawing.rejected)


def put_views(views: Views, image: Pixels, out: Sequence[Pixels], *, seed: int, epoch: int, index: int) -> None:
    """Draw and apply the views of one image into `out`, one (3, size, size) each."""
    sizes = [view.shape[-1] for view in out]
    for one, view in zip(draws_of(views, image, sizes, seed=seed, epoch=epoch, index=index), out, strict=True):
        put(image, one, view)


def draws_of(views: Views, image: Pixels, sizes: Sequence[int], *, seed: int, epoch: int, index: int) -> list[Draw]:
    """The draws of all views of one image."""
    height, width = image.shape[:2]
    return [
        draw(views, seed=seed, epoch=epoch, index=index, view=view, height=height, width=width, size=size)
        for view, size in enumerate(sizes)
    ]


def default_workers(source: Source) -> int:
    """Workers of a pass over the images: none for images in memory or few, else one for each core but one."""
    few = isinstance(source, ArraySource) or len(source) < 512
    return 0 if few else max(1, min(8, cores() - 1))


class _Drawing(Rows):
    def __init__(self, plan: Plan, kept: Kept, epoch: int, indices: Sequence[int], *, finish: bool = True) -> None:
        super().__init__(len(indices), plan.views.sizes(plan.size))
        self.plan, self.kept, self.epoch, self.indices, self.finish = plan, kept, epoch, indices, finish
        self.places = np.empty(len(indices), np.int64)
        self._draws: dict[tuple[int, int], PhotoDraw] = {}

    def fill(self, rows: range) -> None:
        plan = self.plan
        for row in rows:
            index, image = self._readable(int(self.indices[row]))
            self.places[row] = index
            draws = draws_of(plan.views, image, self.sizes, seed=plan.seed, epoch=self.epoch, index=index)
            for view, (one, out) in enumerate(zip(draws, self.row(row), strict=True)):
                if self.finish or not isinstance(one, PhotoDraw):
                    put(image, one, out)
                else:
                    put_planes(crop(image, one), out)
                    self._draws[view, row] = one

    def finishes(self) -> list[on_device.Finishes]:
        """What is still to be done to the views."""
        rows = range(len(self))
        return [on_device.stack([self._draws[view, row] for row in rows]) for view in range(len(self.views))]

    def batch(self) -> Batch:
        places, labels = torch.from_numpy(self.places), self.plan.source.labels
        label = torch.full_like(places, -1) if labels is None else torch.from_numpy(labels[self.places])
        return Batch(self.views, places, label)

    def _readable(self, wanted: int) -> tuple[int, Pixels]:
        source, count = self.plan.source, len(self.plan.source)
        for offset in range(count):
            index = (wanted + offset) % count
            if index in self.rejected:  # of the same batch: not read once more
                continue
            try:
                return index, self.kept.load(index)
            except Unreadable as error:
                self.rejected[index] = error.reason
        first = self.rejected[wanted]
        raise UserError(f"none of the {count} images of {printable(source.name)} can be read; the first: {first}")


class _Crops(Rows):
    def __init__(self, source: Source, indices: NDArray[np.int64], size: int, *, glyph: bool) -> None:
        super().__init__(len(indices), [size])
        self.source, self.indices, self.size, self.glyph = source, indices, size, glyph
        self.is_read = np.zeros(len(indices), bool)

    def fill(self, rows: range) -> None:
        for row in rows:
            index = int(self.indices[row])
            try:
                image = load(self.source, index)
            except Unreadable as error:
                self.rejected[index] = error.reason
                continue
            put_planes(center(image, self.size, glyph=self.glyph), self.row(row)[0])
            self.is_read[row] = True

    def read(self) -> tuple[Tensor, Tensor]:
        """The crops of the readable images, and their places."""
        crops, places = self.views[0], torch.from_numpy(self.indices.copy())
        if self.is_read.all():
            return crops, places
        rows = torch.from_numpy(self.is_read)
        return crops[rows], places[rows]


def is_glyph(views: Views) -> bool:
    """Whether images are taken as a whole (glyphs) or by their middle (photos) at inference."""
    return isinstance(views, GlyphViews)
