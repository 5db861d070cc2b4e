"""Loaders: the batches of some steps, the views of some images, and their inference crops."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gemel.data.drawing import Drawing, vector_batch
from gemel.data.image_cache import ImageCache
from gemel.data.plan import Batch, Plan, Unfinished
from gemel.data.sources import Source
from gemel.data.threaded_loader import assembled
from gemel.launcher import cores, launched
from gemel.settings.recipes import GlyphViews, PhotoViews, VectorViews, Views


class Drawn(NamedTuple):
    """A batch of uint8 views, and the files that had to be replaced on the way."""

    batch: Batch
    rejected: dict[int, str]


class Loader:
    """The batches of some steps.

    Args:
        plan: what is drawn.
        steps: numbers of the steps, counted over all epochs; None: those of the first epoch.
        workers: threads that prepare batches; 0: the calling one does.
        cache: of decoded images, as another loader of the same source had it; None: a new one.

    Attributes:
        rejected: reasons why images could not be read so far, by index.
        cache: of decoded images.

    Raises:
        UserError: as `Plan.check`.
    """

    def __init__(
        self, plan: Plan, steps: range | None = None, *, workers: int = 0, cache: ImageCache | None = None
    ) -> None:
        plan.check()
        self.plan = plan
        self.steps = range(plan.steps_per_epoch) if steps is None else steps
        self.workers = workers
        self.cache = ImageCache(plan.source) if cache is None else cache
        self.rejected: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[Batch | Unfinished]:
        if self.plan.source.width is not None:
            for step in self.steps:
                yield vector_batch(self.plan, step // self.plan.steps_per_epoch, self.plan.rows(step))
            return
        for drawing in assembled(self._begin, self.steps, self.workers):
            self.rejected.update(drawing.rejected)
            yield drawing.drawn()

    def _begin(self, step: int) -> Drawing:
        return Drawing(self.plan, self.cache, step // self.plan.steps_per_epoch, self.plan.rows(step).tolist())


class ViewLoader:
    """The global views of an epoch in the order of the indices; unreadable images are skipped and reported.

    Args:
        plan: what is drawn; its partners and order are not looked at.
        epoch: whose views.
        indices: of the images; None: all of them.
        batch_size: images at a time; the last batch may have fewer.
        workers: threads that prepare batches; 0: the calling one does.
        cache: as `Loader`.

    Attributes:
        rejected: as `Loader`.
    """

    def __init__(
        self,
        plan: Plan,
        epoch: int,
        indices: Sequence[int] | NDArray[np.int64] | None = None,
        *,
        batch_size: int = 256,
        workers: int = 0,
        cache: ImageCache | None = None,
    ) -> None:
        views = plan.views.model_copy(update={"local_count": 0}) if isinstance(plan.views, PhotoViews) else plan.views
        self.plan = replace(plan, views=views, partners=None)
        self.epoch = epoch
        self.indices = np.arange(len(plan.source)) if indices is None else np.asarray(indices, np.int64)
        self.batch_size = batch_size
        self.workers = workers
        self.cache = ImageCache(plan.source, 0) if cache is None else cache
        self.rejected: dict[int, str] = {}

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[Batch | Unfinished]:
        if self.plan.source.width is not None:
            for number in range(len(self)):
                yield vector_batch(self.plan, self.epoch, self._wanted(number))
            return
        for drawing in assembled(self._begin, range(len(self)), self.workers):
            self.rejected.update(drawing.rejected)
            if drawing.is_read.any():
                yield drawing.drawn()

    def _begin(self, number: int) -> Drawing:
        return Drawing(self.plan, self.cache, self.epoch, self._wanted(number).tolist(), replaces=False)

    def _wanted(self, number: int) -> NDArray[np.int64]:
        return self.indices[number * self.batch_size : (number + 1) * self.batch_size]


class InferenceLoader:
    """The inference crops of images in the order of the indices; unreadable ones are skipped and reported.

    A glyph is seen as a whole, a photo by its middle, or with `whole` all of it, both sides resized.

    Yields (views (b, 3, size, size) uint8, index (b,)).
    """

    def __init__(
        self,
        source: Source,
        *,
        size: int,
        glyph: bool,
        whole: bool = False,
        batch_size: int = 256,
        workers: int = 0,
        indices: Sequence[int] | None = None,
    ) -> None:
        views: Views = PhotoViews(global_count=1, kinds="whole" if whole else "plain")
        if glyph:
            views = GlyphViews(global_count=1, kinds="plain")
        if source.width is not None:
            views = VectorViews(global_count=1)
        plan = Plan(source, views, size, seed=0, batch_size=batch_size)
        self._views = ViewLoader(plan, 0, indices, batch_size=batch_size, workers=workers)
        self.source, self.indices, self.rejected = source, self._views.indices, self._views.rejected

    def __len__(self) -> int:
        return len(self._views)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for drawn in self._views:
            batch = drawn.batch if isinstance(drawn, Unfinished) else drawn
            yield batch.views[0], batch.index


def draw_views(plan: Plan, epoch: int, indices: Sequence[int]) -> Drawn:
    """Draw the views of the images at `indices`, as training would see them in `epoch`.

    An unreadable image is replaced by the next readable one.

    Raises:
        UserError: no image can be read.
    """
    if plan.source.width is not None:
        return Drawn(vector_batch(plan, epoch, np.asarray(indices, np.int64)), {})
    drawing = Drawing(replace(plan, on_device=False), ImageCache(plan.source, 0), epoch, indices)
    drawing.fill(range(len(drawing)))
    return Drawn(drawing.batch(), drawing.rejected)


def default_workers(source: Source) -> int:
    """Return the workers of a pass: 0 for images in memory or few, else this process's share of the cores but one."""
    few = source.in_memory or len(source) < 512
    return 0 if few else max(1, min(8, cores() // launched().local_processes - 1))
