"""Feature maps in place of images: of each image as a whole, and of crops of it, as a network's trunk has left them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemel.data.sources.base import Source


class MapSource(Source):
    """Maps of images; those that were not looked at have the maps of the nearest one that was.

    Args:
        images: N of them.
        maps: (S, K, c, h, w) of S images: of each as a whole, then of K - 1 crops.
        rows: (N,) which of the S maps each image has.
        near: (N, k) indices of the nearest images of each.
    """

    in_memory = True
    rejected: dict[int, str] = {}  # noqa: RUF012  replaced as a whole

    def __init__(
        self, images: Source, maps: NDArray[Any], rows: NDArray[np.int64], near: NDArray[np.int64] | None
    ) -> None:
        super().__init__(images.name, images.labels, images.label_names, images.stated_classes)
        self.images, self.maps, self._rows = images, maps, rows
        self.width = int(maps.shape[2])
        crops = maps.shape[1]
        self._flat = maps.reshape(-1, *maps.shape[2:])
        # Every index of the table from N on is one of the S · K crops: half of the draws are of the image itself.
        first = len(rows) + rows[:, None] * crops + np.arange(crops)
        own, others = first, first if near is None else first[near].reshape(len(rows), -1)
        self.neighbours = np.concatenate([np.tile(own, (1, others.shape[1] // crops)), others], 1)

    def __len__(self) -> int:
        return len(self._rows)

    def path(self, index: int) -> str:
        """Return the image's path."""
        return self.images.path(index)

    def take(self, indices: Any) -> NDArray[np.float32]:
        """Return the maps of images as a whole, by index, and of crops, from index N on: (n, c, h, w)."""
        indices, count = np.asarray(indices), len(self)
        whole = self._rows[np.minimum(indices, count - 1)] * self.maps.shape[1]
        return self._flat[np.where(indices < count, whole, indices - count)].astype(np.float32)

    def read(self, index: int) -> Any:
        """Return the map of an image as a whole, (c, h, w)."""
        return self.take(index)

    def version(self, index: int) -> bytes:
        """Return what tells the image's state."""
        return self.images.version(index)
