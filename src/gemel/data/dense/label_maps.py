"""Images with a class for each pixel."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gemel.data.decode import PIXEL_LIMIT
from gemel.data.downstream.parts import Layout
from gemel.data.quiet_readers import quiet_readers
from gemel.data.sources import Source
from gemel.data.sources.identity import version_key
from gemel.errors import UserError
from gemel.hashing import hash_of
from gemel.metrics.dense.miou import IGNORED

Labels = NDArray[np.uint8]
"""(H, W): classes from 0, 255 where nothing is judged"""


class LabelMaps(ABC):
    """Images, and for each a label map.

    Args:
        images: the images.
        names: of the classes.
    """

    def __init__(self, images: Source, names: list[str]) -> None:
        self.images, self.names = images, names

    def __len__(self) -> int:
        return len(self.images)

    @abstractmethod
    def read(self, index: int) -> Labels:
        """Return an image's label map.

        Raises:
            UserError: it can't be read, or is not what a label map should be.
        """

    @abstractmethod
    def version(self, index: int) -> bytes:
        """Return what differs between two states of a label map."""

    def hash(self) -> str:
        """Return a hash of images and label maps as they are."""
        own = (self.version(index) for index in range(len(self)))
        return hash_of([version_key(self.images).encode(), repr(self.names).encode(), *own])


class FileLabels(LabelMaps):
    """Label maps in image files: the value of a pixel is its class.

    Args:
        described: the set, for messages.
        images: the images.
        files: one for each image.
        names: of the classes.
        table: class of each value, (256,); None: the value itself.
    """

    def __init__(
        self, described: Layout, images: Source, files: Sequence[Path], names: list[str], table: Labels | None = None
    ) -> None:
        super().__init__(images, names)
        self.files, self._described, self._table = list(files), described, table

    def read(self, index: int) -> Labels:
        """Return the values through the table.

        Raises:
            UserError: it can't be read, has colours instead of classes, or a class that there is not.
        """
        file = self.files[index]
        values = pixel_values(self._described, file)
        found = values if self._table is None else self._table[values]
        wrong = np.unique(found[(found >= len(self.names)) & (found != IGNORED)])
        if len(wrong):
            raise UserError(
                f"{self._described.title}: {file} holds class {wrong[0]}; there are {len(self.names)}, from 0, and "
                f"{IGNORED} for pixels that do not count"
            )
        return found

    def version(self, index: int) -> bytes:
        """Return path, size and time of the file."""
        file = self.files[index]
        state = file.stat()
        return f"{file} {state.st_size} {state.st_mtime_ns}".encode()


class ArrayLabels(LabelMaps):
    """Label maps in memory.

    Args:
        images: the images.
        labels: (N, H, W).
        names: of the classes.
    """

    def __init__(self, images: Source, labels: Labels, names: list[str]) -> None:
        super().__init__(images, names)
        self.labels = labels

    def read(self, index: int) -> Labels:
        """Return a label map."""
        return self.labels[index]

    def version(self, index: int) -> bytes:
        """Return the label map."""
        return self.labels[index].tobytes()


def pixel_values(described: Layout, file: Path) -> Labels:
    """Return the values of a palette or grey image, (H, W): of a palette the index, never the colour.

    Raises:
        UserError: it can't be read, or has colours.
    """
    try:
        with quiet_readers(), Image.open(file) as image:
            if image.width * image.height > PIXEL_LIMIT:
                raise UserError(f"{described.title}: {file} promises more than {PIXEL_LIMIT:,} pixels")
            if image.mode not in ("P", "L", "1"):
                raise UserError(
                    f"{described.title}: {file} is an image of mode {image.mode}; a label map has one byte a pixel, "
                    "its class (mode L or P)"
                )
            return np.array(image, np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{described.title}: {file} can't be read as a label map: {error}") from error
