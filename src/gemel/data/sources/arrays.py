"""Images in memory."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemel.data.sources.base import Source
from gemel.errors import UserError, brief


class ArraySource(Source):
    """Images in an array, or in a list of arrays.

    Args:
        name: paths are `name/0012`.
        images: (N, H, W) or (N, H, W, 3), uint8; or N arrays of (H, W) or (H, W, 3).
        file: the .npy file that the images are mapped from; such a source is pickled without its pixels.
    """

    in_memory = True

    def __init__(
        self,
        name: str,
        images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
        file: Path | None = None,
        **described: Any,
    ) -> None:
        super().__init__(name, **described)
        self._images = images
        self._file = file
        self._digits = len(str(len(images) - 1))

    def __len__(self) -> int:
        return len(self._images)

    def path(self, index: int) -> str:
        """Return the dataset's name and the image's index in it."""
        return f"{self.name}/{index:0{self._digits}d}"

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return a copy of the pixels: the array itself may be mapped read-only."""
        return np.array(self._images[index])

    def version(self, index: int) -> bytes:
        """Return the name and the pixels."""
        pixels = self._images[index]
        return f"{self.path(index)} {pixels.shape} ".encode() + pixels.tobytes()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | ({"_images": None} if self._file else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._file:
            self._images = np.load(self._file, mmap_mode="r", allow_pickle=False)


def open_arrays(given: Any) -> Source | None:
    """Return the images of an array or of a list of arrays; None if `given` is something else.

    Raises:
        UserError: no images, another type or another shape.
    """
    images: Any = given
    if isinstance(given, np.ndarray):
        shapes, kinds = {given.shape[1:]}, {str(given.dtype)}
    elif isinstance(given, list | tuple) and given and all(isinstance(image, np.ndarray) for image in images):
        shapes, kinds = {image.shape for image in images}, {str(image.dtype) for image in images}
    else:
        return None
    fits = all(0 not in shape and (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)) for shape in shapes)
    if not fits or kinds != {"uint8"} or not len(images):
        raise UserError(
            f"{len(images)} arrays of {brief(', '.join(sorted(kinds)))} and shape {brief(sorted(shapes))} are no "
            "images; give uint8 of shape (N, H, W) or (N, H, W, 3), or a list of arrays (H, W) or (H, W, 3)"
        )
    return ArraySource("array", given)
