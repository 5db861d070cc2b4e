"""Batches assembled in threads ahead of their use: each is allocated once, and its rows are filled in place.

Threads and not processes: decoding, resizing and the loop over pixels all release the interpreter's lock, so that
threads run in parallel. They start at once, share the decoded images, copy nothing, need no /dev/shm, and no fork of a
process that has threads of its own.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from gemel.data.pixel_values import Decoding, Pixels
from gemel.data.quiet_readers import quiet_readers
from gemel.device import device

PREFETCHED = 2
"""batches prepared ahead of the one in use"""


class Fillable(ABC):
    """A batch that is filled row by row."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def fill(self, rows: range) -> None:
        """Fill some rows; called from several threads, each with rows of its own."""


class Rows(Fillable):
    """Views of some images, to be filled row by row.

    Args:
        count: rows.
        sizes: sides of the views of a row, pixels.
        decoding: of the images: channels and type of the views.
    """

    def __init__(self, count: int, sizes: Iterable[int], decoding: Decoding) -> None:
        self.sizes = list(sizes)
        pinned = device().type == "cuda"  # the copy to a GPU then runs beside its work
        kind = torch.float32 if decoding.floats else torch.uint8
        self.views: list[Tensor] = [
            torch.empty((count, decoding.shown, size, size), dtype=kind, pin_memory=pinned) for size in self.sizes
        ]
        self.rejected: dict[int, str] = {}
        self._pixels: list[Pixels] = [view.numpy() for view in self.views]

    def __len__(self) -> int:
        return len(self.views[0])

    def row(self, number: int) -> list[Pixels]:
        """Return one row of each view, (C, size, size), to be written into."""
        return [view[number] for view in self._pixels]


Filled = TypeVar("Filled", bound=Fillable)


def assembled(begin: Callable[[int], Filled], numbers: Iterable[int], workers: int) -> Iterator[Filled]:
    """Yield the batches of these numbers, in order.

    Args:
        begin: makes the empty batch of a number.
        numbers: of the batches.
        workers: threads that fill them; 0: the calling one does.
    """
    if not workers:
        for number in numbers:
            batch = begin(number)
            batch.fill(range(len(batch)))
            yield batch
        return
    waiting: deque[tuple[Filled, list[Future[None]]]] = deque()
    # Here, once: the list of warning filters belongs to the process, and must not change while batches are used.
    with quiet_readers(), ThreadPoolExecutor(workers, "views") as pool:
        try:
            for number in numbers:
                batch = begin(number)
                bounds = np.linspace(0, len(batch), workers + 1).astype(int).tolist()
                parts = [range(start, end) for start, end in pairwise(bounds)]
                waiting.append((batch, [pool.submit(batch.fill, part) for part in parts]))
                if len(waiting) > PREFETCHED:
                    yield _finished(waiting.popleft())
            while waiting:
                yield _finished(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _finished(batch: tuple[Filled, list[Future[None]]]) -> Filled:
    for part in batch[1]:
        part.result()
    return batch[0]
