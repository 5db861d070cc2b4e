"""The views of some images: drawn row by row from decoded pixels, or at once from vectors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemel.data import on_device
from gemel.data.augment import crop, put, put_planes
from gemel.data.decode import Unreadable
from gemel.data.image_cache import ImageCache
from gemel.data.listing import printable
from gemel.data.pixel_values import Pixels
from gemel.data.plan import Batch, Plan, Unfinished
from gemel.data.threaded_loader import Rows
from gemel.data.views import Draw, PhotoDraw, choose_neighbours, choose_partner, draw
from gemel.errors import UserError
from gemel.settings.recipes import Views


class Drawing(Rows):
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
        sizes = plan.views.sizes(plan.size) * (1 if plan.partners is None else 2)
        super().__init__(len(indices), sizes, plan.source.decoding)
        self.plan, self.cache, self.epoch, self.indices, self.replaces = plan, cache, epoch, indices, replaces
        self.index = np.array(indices, np.int64)
        self.is_read = np.zeros(len(indices), bool)
        self._draws: dict[tuple[int, int], PhotoDraw] = {}

    def fill(self, rows: range) -> None:
        """Draw the views of some rows."""
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


def put_views(views: Views, image: Pixels, out: Sequence[Pixels], *, seed: int, epoch: int, index: int) -> None:
    """Draw and apply the views of one image into `out`, one (C, size, size) each."""
    sizes = [view.shape[-1] for view in out]
    for one, view in zip(draws_of(views, image, sizes, seed=seed, epoch=epoch, index=index), out, strict=True):
        put(image, one, view)


def draws_of(
    views: Views, image: Pixels, sizes: Sequence[int], *, seed: int, epoch: int, index: int, partner: bool = False
) -> list[Draw]:
    """Draw the numbers of all views of one image; see `views.draw`."""
    key = {"seed": seed, "epoch": epoch, "index": index, "height": image.shape[0], "width": image.shape[1]}
    return [draw(views, view=view, size=size, partner=partner, **key) for view, size in enumerate(sizes)]


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
