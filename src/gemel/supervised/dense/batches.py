"""Endless batches of images of any size: the batch of a step is a function of (seed, step)."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemel.data.batches import default_workers
from gemel.data.decode import Unreadable
from gemel.data.dense.box_views import draw_view, put, show
from gemel.data.dense.label_maps import LabelMaps
from gemel.data.dense.label_views import view_of
from gemel.data.dense.objects import Objects
from gemel.data.image_cache import ImageCache
from gemel.data.listing import printable
from gemel.data.sources import Source
from gemel.data.threaded_loader import Fillable, assembled
from gemel.data.views import order
from gemel.distributed import rank, world_size
from gemel.errors import UserError
from gemel.supervised.dense.recipes import Detecting, Segmenting
from gemel.supervised.dense.region_heads import Target

Row = TypeVar("Row")
Batch = TypeVar("Batch")


class Stream(ABC, Generic[Row, Batch]):
    """What is learned at every step, without epochs: position p = step · B + row shows order(seed, p // N)[p mod N].

    Of B rows each of W processes takes the contiguous ones [rank · B / W, (rank + 1) · B / W).

    Args:
        source: the images.
        indices: those that are learned from, (N,).
        batch_size: B, a multiple of W.
        seed: random seed of the order and of the views.

    Attributes:
        rejected: reasons of the unreadable images, by index; the next readable ones stand for them.
    """

    def __init__(self, source: Source, indices: NDArray[np.int64], batch_size: int, seed: int) -> None:
        self.source, self.indices, self.batch_size, self.seed = source, indices, batch_size, seed
        self.cache = ImageCache(source)
        self.rejected: dict[int, str] = {}

    def batches(self, steps: range) -> Iterator[Batch]:
        """Yield this process's part of the batches of some steps, prefetched.

        Raises:
            UserError: no image can be read.
        """
        for rows in assembled(lambda step: _Rows(self, step), steps, default_workers(self.source)):
            self.rejected.update(rows.rejected)
            yield self.batch(rows.filled)

    @abstractmethod
    def row(self, index: int, epoch: int, key: int) -> Row:
        """Return one image with what it shows; `key` seeds what is drawn for it later.

        Raises:
            Unreadable: the image can't be read.
        """

    @abstractmethod
    def batch(self, rows: list[Row]) -> Batch:
        """Return a batch of rows."""


class _Rows(Fillable, Generic[Row, Batch]):
    def __init__(self, stream: Stream[Row, Batch], step: int) -> None:
        self.stream, size = stream, stream.batch_size
        first, last = (size * part // world_size() for part in (rank(), rank() + 1))
        self.positions = range(step * size + first, step * size + last)
        self.rows: list[Row | None] = [None] * len(self.positions)
        self.rejected: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def fill(self, rows: range) -> None:
        """Draw and make some rows."""
        for row in rows:
            self.rows[row] = self._readable(self.positions[row])

    @property
    def filled(self) -> list[Row]:
        return [one for one in self.rows if one is not None]

    def _readable(self, position: int) -> Row:
        stream, reason = self.stream, ""
        epoch, place = divmod(position, len(stream.indices))
        for offset in range(len(stream.indices)):
            at = (place + offset) % len(stream.indices)
            index = int(stream.indices[order(stream.seed, epoch, len(stream.indices))[at]])
            try:
                return stream.row(index, epoch, _key(stream.seed, position))
            except Unreadable as error:
                self.rejected[index] = reason = error.reason
        name = printable(stream.source.name)
        raise UserError(f"none of the {len(stream.indices)} images of {name} can be read; the last: {reason}")


class BoxRow(NamedTuple):
    """An image and its objects, before they are put on the device."""

    image: Tensor
    """(3, h, w) uint8"""
    target: Target


class BoxBatch(NamedTuple):
    """This process's images of a step."""

    images: list[Tensor]
    targets: list[Target]


class BoxStream(Stream[BoxRow, BoxBatch]):
    """Images with boxes, and masks where they are learned.

    Args:
        objects: annotated images; those without an object to learn are left out.
        recipe: sides and batch size.
        seed: random seed.
    """

    def __init__(self, objects: Objects, recipe: Detecting, seed: int) -> None:
        super().__init__(objects.images, objects.learned(), recipe.batch_size, seed)
        self.objects, self.recipe = objects, recipe

    def row(self, index: int, epoch: int, key: int) -> BoxRow:
        """Return a view of an image.

        Raises:
            UserError: the image has another size than its annotations say.
            Unreadable: it can't be read.
        """
        image, recipe = self.cache.load(index), self.recipe
        check_size(self.objects, index, image.shape[:2])
        sides = (image.shape[0], image.shape[1])
        view = draw_view(recipe.sizes, recipe.longest, sides, seed=self.seed, epoch=epoch, index=index)
        shown = show(self.objects, index, view, masks=recipe.masks)
        masks = None if shown.masks is None else torch.from_numpy(shown.masks)
        target = Target(torch.from_numpy(shown.boxes), torch.from_numpy(shown.classes), masks, key)
        return BoxRow(torch.from_numpy(put(image, view)), target)

    def batch(self, rows: list[BoxRow]) -> BoxBatch:
        """Return the rows as lists."""
        return BoxBatch([one.image for one in rows], [one.target for one in rows])


class LabelBatch(NamedTuple):
    """This process's crops of a step."""

    images: Tensor
    """(b, 3, S, S) uint8, zeros where a crop is smaller"""
    labels: Tensor
    """(b, S, S) int64, 255 there"""
    known: Tensor
    """(b, S, S) bool: inside of the crop"""


class LabelStream(Stream[tuple[Tensor, Tensor], LabelBatch]):
    """Crops of images with label maps.

    Args:
        maps: the images.
        recipe: sides and batch size.
        seed: random seed.
    """

    def __init__(self, maps: LabelMaps, recipe: Segmenting, seed: int) -> None:
        super().__init__(maps.images, np.arange(len(maps)), recipe.batch_size, seed)
        self.maps, self.recipe = maps, recipe

    def row(self, index: int, epoch: int, key: int) -> tuple[Tensor, Tensor]:
        """Return a crop of an image, and of its label map.

        Raises:
            Unreadable: it can't be read.
        """
        image, recipe = self.cache.load(index), self.recipe
        view = view_of(
            image, self.maps.read(index), box=recipe.box, crop=recipe.crop, seed=self.seed, epoch=epoch, index=index
        )
        return torch.from_numpy(view.image), torch.from_numpy(view.labels)

    def batch(self, rows: list[tuple[Tensor, Tensor]]) -> LabelBatch:
        """Return the crops padded at the right and below."""
        side = self.recipe.crop
        images = torch.zeros(len(rows), 3, side, side, dtype=torch.uint8)
        labels = torch.full((len(rows), side, side), 255)
        known = torch.zeros(len(rows), side, side, dtype=torch.bool)
        for number, (image, label) in enumerate(rows):
            height, width = label.shape
            images[number, :, :height, :width] = image
            labels[number, :height, :width] = label
            known[number, :height, :width] = True
        return LabelBatch(images, labels, known)


def check_size(objects: Objects, index: int, found: tuple[int, ...]) -> None:
    """Check that an image is as large as its annotations say; where they don't, note its size.

    Raises:
        UserError: it is not.
    """
    stated = objects.size(index)
    if 0 in stated or stated == found[1::-1]:  # turned by its EXIF tag: annotations are of the upright image
        objects.sizes[index] = found[:2]
    elif stated != found[:2]:
        raise UserError(
            f"{printable(objects.images.path(index))} is {found[1]} x {found[0]} pixels, and its annotations are for "
            f"{stated[1]} x {stated[0]}"
        )


def _key(seed: int, position: int) -> int:
    return int(np.random.SeedSequence([seed, position]).generate_state(1, np.uint64)[0] >> np.uint64(2))
