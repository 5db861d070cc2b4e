"""Some images of a source, as a source of its own."""

import numpy as np
from numpy.typing import NDArray

from gemel.data.sources.base import Source


class Subset(Source):
    """Some images of a source, in the order asked for.

    Args:
        source: the images.
        places: which of them, (N,).
    """

    def __init__(self, source: Source, places: NDArray[np.int64]) -> None:
        labels = None if source.labels is None else source.labels[places]
        super().__init__(source.name, labels, list(source.label_names), source.stated_classes)
        self.source = source
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def origin(self, place: int) -> tuple[Source, int]:
        """As the source knows it."""
        return self.source.origin(int(self.places[place]))

    def path(self, index: int) -> str:
        """As the source shows it."""
        return self.source.path(int(self.places[index]))

    def read(self, index: int) -> bytes | NDArray[np.uint8]:
        """As the source gives it; OSError if the file has vanished or cannot be read."""
        return self.source.read(int(self.places[index]))
