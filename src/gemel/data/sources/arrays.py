"""Images in memory."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemel.data.sources.base import Source


class ArraySource(Source):
    """Images of one size in an array.

    Args:
        name: paths are `name/0012`.
        images: (N, H, W) or (N, H, W, 3).
        file: the .npy file that the images are mapped from; such a source is pickled without its pixels.
    """

    def __init__(self, name: str, images: NDArray[np.uint8], file: Path | None = None, **described: Any) -> None:
        super().__init__(name, **described)
        self._images = images
        self._file = file
        self._digits = len(str(len(images) - 1))

    def __len__(self) -> int:
        return len(self._images)

    def path(self, index: int) -> str:
        """The set's name and the image's place in it."""
        return f"{self.name}/{index:0{self._digits}d}"

    def read(self, index: int) -> NDArray[np.uint8]:
        """A copy of the pixels: the array itself may be mapped read-only."""
        return np.array(self._images[index])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | ({"_images": None} if self._file else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._file:
            self._images = np.load(self._file, mmap_mode="r", allow_pickle=False)
