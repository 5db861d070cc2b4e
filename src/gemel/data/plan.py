"""Plan: step -> rows is a pure function, so a run can start at any step by itself; Batch: what is drawn at a step."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gemel.data import on_device
from gemel.data.sources import Source
from gemel.data.views import order
from gemel.errors import UserError
from gemel.settings.recipes import GlyphViews, PhotoViews, Views


class Batch(NamedTuple):
    """What a method sees at a step; a NamedTuple, so that the loader pins it and the trainer moves it as it is."""

    views: list[Tensor]
    """global crops, then local ones; each (B, C, H, W), or (B, d) of vectors"""
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
        if source.width is not None:
            return (source.width,)
        return (source.decoding.shown, self.size, self.size)

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


def is_glyph(views: Views) -> bool:
    """Return whether images are taken as a whole (glyphs) or by their middle (photos) at inference."""
    return isinstance(views, GlyphViews)
