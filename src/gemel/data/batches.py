"""Batch, and the loader: step -> batch is a pure function, so a run can start at any step by itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemel.data import on_device
from gemel.data.augment import Pixels, crop, put, put_planes
from gemel.data.decode import Unreadable
from gemel.data.image_cache import ImageCache
from gemel.data.listing import printable
from gemel.data.sources import Source, VectorSource
from gemel.data.threaded_loader import Rows, assembled
from gemel.data.views import Draw, PhotoDraw, choose_neighbours, choose_partner, draw, order
from gemel.errors import UserError
from gemel.launcher import cores, launched
from gemel.settings.recipes import GlyphViews, PhotoViews, VectorViews, Views


class Batch(NamedTuple):
    """What a method sees at a step; a NamedTuple, so that the loader pins it and the trainer moves it as it is."""

    views: list[Tensor]
    """global crops, then local ones; each (B, 3, H, W), or (B, d) of vectors"""
    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    """(B,) index of each image in the dataset"""
    label: Tensor
    """(B,) -1 where unknown"""
    partners: list[Tensor] = []  # noqa: RUF012  a NamedTuple's default; nobody writes into it
    """as many views of each image's partner, drawn in the same way; empty where the plan has no partners"""


class Unfinished(NamedTuple):
    """A batch with views that are only resized crops, and what is still to be done to them on the device."""

    batch: Batch
    finishes: list[on_device.Finishes | None]
    """of each view number, then of each of the partners'; None: nothing"""

    def finished(self) -> Batch:
        """Return the batch as a method sees it."""
        crops = self.batch.views + self.batch.partners
        views = [
            one if finishes is None else on_device.finish(one, finishes)
            for one, finishes in zip(crops, self.finishes, strict=True)
        ]
        count = len(self.batch.views)
        return self.batch._replace(views=views[:count], partners=views[count:])


@dataclass(frozen=True, eq=False)
class Plan:
    """What is drawn from a source at every step, on this process.

    Args:
        source: the images.
        views: recipe of the views.
        size: side of a view, pixels; vectors have none.
        seed: of the run.
        batch_size: images a step, over all processes.
        rank: this process takes the contiguous rows [rank · B / W, (rank + 1) · B / W) of a step.
        processes: W.
        on_device: the loader leaves what comes after the resize of photos to whoever takes its batches.
        partners: (N, k) indices from which each image's partner of an epoch is drawn; None: no partners.
        order: indices of an epoch in their order, at least a batch for each of its steps, also with repeats; of every
            epoch that is drawn with this plan. None: a permutation of all images, another in each epoch.
    """

    source: Source
    views: Views
    size: int
    seed: int
    batch_size: int
    rank: int = 0
    processes: int = 1
    on_device: bool = False
    partners: NDArray[np.int64] | None = None
    order: NDArray[np.int64] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; the rest of its order is dropped."""
        return len(self.source) // self.batch_size

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image's first view."""
        source = self.source
        return source.vectors.shape[1:] if isinstance(source, VectorSource) else (3, self.size, self.size)

    @property
    def leaves_finish(self) -> bool:
        """Whether batches come as `Unfinished`; glyphs are one sampling, and never do."""
        return self.on_device and isinstance(self.views, PhotoViews)

    def rows(self, step: int) -> NDArray[np.int64]:
        """Return the indices of this process's part of a step."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        part = self.batch_size // self.processes
        start = batch * self.batch_size + self.rank * part
        rows = order(self.seed, epoch, len(self.source)) if self.order is None else self.order
        return rows[start : start + part]

    def check(self) -> None:
        """Check that the images fill a batch, the processes share it, and partners and order are of these images.

        Raises:
            UserError: with every mistake.
        """
        count, wrong = len(self.source), list[str]()
        if self.steps_per_epoch == 0:
            wrong.append(f"{count} images cannot fill a batch of {self.batch_size}; lower --batch-size")
        if self.batch_size % self.processes:
            wrong.append(
                f"a batch of {self.batch_size} cannot be shared by {self.processes} processes; give a multiple"
            )
        if self.partners is not None:
            fits = self.partners.ndim == 2 and len(self.partners) == count and self.partners.size > 0
            wrong += _index_mistakes("partners", self.partners, count, fits, f"({count}, k), k at least 1")
        if self.order is not None:
            needed = self.steps_per_epoch * self.batch_size
            fits = self.order.ndim == 1 and len(self.order) >= needed
            wrong += _index_mistakes("order", self.order, count, fits, f"({needed},) or longer, to fill all batches")
        if wrong:
            raise UserError(*wrong)


def _index_mistakes(name: str, indices: NDArray[Any], count: int, fits: bool, shape: str) -> list[str]:
    if not fits or indices.dtype.kind not in "iu":
        return [f"{name} must be an array of integers {shape}, not {indices.dtype} {indices.shape}"]
    low, high = indices.min(initial=0), indices.max(initial=0)
    inside = low >= 0 and high < count
    return [] if inside else [f"{name} must be indices of the images, 0 to {count - 1}, not from {low} to {high}"]


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
        if isinstance(self.plan.source, VectorSource):
            for step in self.steps:
                yield vector_batch(self.plan, step // self.plan.steps_per_epoch, self.plan.rows(step))
            return
        for drawing in assembled(self._begin, self.steps, self.workers):
            self.rejected.update(drawing.rejected)
            yield drawing.drawn()

    def _begin(self, step: int) -> "_Drawing":
        return _Drawing(self.plan, self.cache, step // self.plan.steps_per_epoch, self.plan.rows(step).tolist())


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
        if isinstance(self.plan.source, VectorSource):
            for number in range(len(self)):
                yield vector_batch(self.plan, self.epoch, self._wanted(number))
            return
        for drawing in assembled(self._begin, range(len(self)), self.workers):
            self.rejected.update(drawing.rejected)
            if drawing.is_read.any():
                yield drawing.drawn()

    def _begin(self, number: int) -> "_Drawing":
        return _Drawing(self.plan, self.cache, self.epoch, self._wanted(number).tolist(), replaces=False)

    def _wanted(self, number: int) -> NDArray[np.int64]:
        return self.indices[number * self.batch_size : (number + 1) * self.batch_size]


class InferenceLoader:
    """The inference crops of images in the order of the indices; unreadable ones are skipped and reported.

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
        views: Views = GlyphViews(global_count=1, kinds="plain") if glyph else PhotoViews(global_count=1, kinds="plain")
        if isinstance(source, VectorSource):
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
    if isinstance(plan.source, VectorSource):
        return Drawn(vector_batch(plan, epoch, np.asarray(indices, np.int64)), {})
    drawing = _Drawing(replace(plan, on_device=False), ImageCache(plan.source, 0), epoch, indices)
    drawing.fill(range(len(drawing)))
    return Drawn(drawing.batch(), drawing.rejected)


def vector_batch(plan: Plan, epoch: int, indices: NDArray[np.int64]) -> Batch:
    """Return the vectors of images as their first views, and those of drawn neighbours as the others, each (B, d)."""
    source: Any = plan.source

    def views(rows: NDArray[np.int64]) -> list[Tensor]:
        shown = [rows]
        for view in range(1, plan.views.count):
            table = source.neighbours
            shown.append(
                rows if table is None else choose_neighbours(table, rows, seed=plan.seed, epoch=epoch, view=view)
            )
        return [torch.from_numpy(source.take(one)) for one in shown]

    partners: list[Tensor] = []
    if plan.partners is not None:
        drawn = [choose_partner(plan.partners, seed=plan.seed, epoch=epoch, index=one) for one in indices.tolist()]
        partners = views(np.array(drawn, np.int64))
    label = np.full_like(indices, -1) if source.labels is None else source.labels[indices]
    return Batch(views(indices), torch.from_numpy(indices.copy()), torch.from_numpy(label), partners)


def put_views(views: Views, image: Pixels, out: Sequence[Pixels], *, seed: int, epoch: int, index: int) -> None:
    """Draw and apply the views of one image into `out`, one (3, size, size) each."""
    sizes = [view.shape[-1] for view in out]
    for one, view in zip(draws_of(views, image, sizes, seed=seed, epoch=epoch, index=index), out, strict=True):
        put(image, one, view)


def draws_of(
    views: Views, image: Pixels, sizes: Sequence[int], *, seed: int, epoch: int, index: int, partner: bool = False
) -> list[Draw]:
    """Draw the numbers of all views of one image; see `views.draw`."""
    key = {"seed": seed, "epoch": epoch, "index": index, "height": image.shape[0], "width": image.shape[1]}
    return [draw(views, view=view, size=size, partner=partner, **key) for view, size in enumerate(sizes)]


def default_workers(source: Source) -> int:
    """Return the workers of a pass: 0 for images in memory or few, else this process's share of the cores but one."""
    few = source.in_memory or len(source) < 512
    return 0 if few else max(1, min(8, cores() // launched().local_processes - 1))


class _Drawing(Rows):
    """A batch that is drawn row by row.

    Args:
        plan: what is drawn.
        cache: of decoded images.
        epoch: whose views.
        indices: of the images.
        replaces: the next readable image takes the place of an unreadable one; else its row is left out.
    """

    def __init__(
        self, plan: Plan, cache: ImageCache, epoch: int, indices: Sequence[int], *, replaces: bool = True
    ) -> None:
        self.count = plan.views.count
        super().__init__(len(indices), plan.views.sizes(plan.size) * (1 if plan.partners is None else 2))
        self.plan, self.cache, self.epoch, self.indices, self.replaces = plan, cache, epoch, indices, replaces
        self.index = np.array(indices, np.int64)
        self.is_read = np.zeros(len(indices), bool)
        self._draws: dict[tuple[int, int], PhotoDraw] = {}

    def fill(self, rows: range) -> None:
        for row in rows:
            index, image = self._readable(self.indices[row]) if self.replaces else self._load(self.indices[row])
            if image is None:
                continue
            self.index[row], self.is_read[row] = index, True
            self._put(row, index, image)
            if self.plan.partners is not None:
                partner = choose_partner(self.plan.partners, seed=self.plan.seed, epoch=self.epoch, index=index)
                self._put(row, index, self._readable(partner)[1], partner=True)

    def _put(self, row: int, index: int, image: Pixels, *, partner: bool = False) -> None:
        plan, first = self.plan, self.count if partner else 0
        draws = draws_of(
            plan.views, image, self.sizes[: self.count], seed=plan.seed, epoch=self.epoch, index=index, partner=partner
        )
        for view, (one, out) in enumerate(zip(draws, self.row(row)[first : first + self.count], strict=True), first):
            if plan.leaves_finish and isinstance(one, PhotoDraw):
                put_planes(crop(image, one), out)
                self._draws[view, row] = one
            else:
                put(image, one, out)

    def drawn(self) -> Batch | Unfinished:
        """Return the batch, and what is still to be done to its views where that is left to the device."""
        if not self.plan.leaves_finish:
            return self.batch()
        draws = [[self._draws.get((view, row)) for row in self._rows()] for view in range(len(self.views))]
        stacks = [[one for one in of_view if one is not None] for of_view in draws]
        return Unfinished(self.batch(), [on_device.stack(one) if one else None for one in stacks])

    def batch(self) -> Batch:
        """Return the rows that were read."""
        rows = self._rows()
        views = self.views if len(rows) == len(self) else [view[rows] for view in self.views]
        index, labels = self.index[rows], self.plan.source.labels
        label = np.full_like(index, -1) if labels is None else labels[index]
        return Batch(views[: self.count], torch.from_numpy(index), torch.from_numpy(label), views[self.count :])

    def _rows(self) -> list[int]:
        return np.flatnonzero(self.is_read).tolist()

    def _readable(self, wanted: int) -> tuple[int, Pixels]:
        source, count = self.plan.source, len(self.plan.source)
        for offset in range(count):
            index, image = self._load((wanted + offset) % count)
            if image is not None:
                return index, image
        first = self.rejected[wanted]
        raise UserError(f"none of the {count} images of {printable(source.name)} can be read; the first: {first}")

    def _load(self, index: int) -> tuple[int, Pixels | None]:
        if index in self.rejected:  # of the same batch: not read once more
            return index, None
        try:
            return index, self.cache.load(index)
        except Unreadable as error:
            self.rejected[index] = error.reason
            return index, None


def is_glyph(views: Views) -> bool:
    """Return whether images are taken as a whole (glyphs) or by their middle (photos) at inference."""
    return isinstance(views, GlyphViews)
