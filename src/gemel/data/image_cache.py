"""Decoded images that are kept in memory, so that later epochs do not decode them again."""

import threading

from gemel.data.decode import load
from gemel.data.pixel_values import Pixels
from gemel.data.sources import Source
from gemel.launcher import launched, memory

KEPT_BYTES = 1_000_000_000
"""at most this much is kept, and at most an eighth of the machine's memory, shared by gemel's processes on it"""


class ImageCache:
    """A source's images as pixels; the first ones met stay, until the budget is spent.

    Args:
        source: the images.
        budget: bytes; None: `KEPT_BYTES`, or less on a small machine.
    """

    def __init__(self, source: Source, budget: int | None = None) -> None:
        self._source = source
        self._left = default_budget() if budget is None else budget
        self._images: dict[int, Pixels] = {}
        self._lock = threading.Lock()

    def load(self, index: int) -> Pixels:
        """As `decode.load`; nobody may write into what it gives.

        Raises:
            Unreadable: as `decode.load`; asked for again, the file is opened again.
        """
        image = self._images.get(index)
        if image is None:
            image = load(self._source, index)
            if not self._source.in_memory:
                self._keep(index, image)
        return image

    def _keep(self, index: int, image: Pixels) -> None:
        with self._lock:
            if index not in self._images and image.nbytes <= self._left:
                self._left -= image.nbytes
                self._images[index] = image


def default_budget() -> int:
    """Return the bytes of decoded images that this process keeps."""
    return min(KEPT_BYTES, memory() // 8) // launched().local_processes
