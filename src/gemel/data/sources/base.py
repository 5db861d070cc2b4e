"""Images in a fixed order, wherever they come from."""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray


class Source(ABC):
    """Images in a fixed order; small to send to worker processes.

    Args:
        name: as the user gave it.
        labels: (N,), -1 where unknown; None without labels. They never train anything.
        label_names: what each label is called.
        stated_classes: how many classes the data set's description states.
    """

    def __init__(
        self,
        name: str,
        labels: NDArray[np.int64] | None = None,
        label_names: list[str] | None = None,
        stated_classes: int | None = None,
    ) -> None:
        self.name = name
        self.labels = labels
        self.label_names = label_names or []
        self.stated_classes = stated_classes

    def rename_labels(self, names: list[str]) -> None:
        """Number the labels as another source does; a name that it has not becomes unknown, -1."""
        if self.labels is not None:
            place = {name: number for number, name in enumerate(names)}
            table = np.array([*(place.get(name, -1) for name in self.label_names), -1], np.int64)
            self.labels = table[self.labels]
            self.label_names = list(names)

    def subset(self, places: "NDArray[np.int64]") -> "Source":
        """The images at `places` (N,), in that order, with their labels; nothing is copied."""
        from gemel.data.sources.parts import Subset  # which derives from this class

        return Subset(self, np.asarray(places, np.int64))

    def origin(self, place: int) -> "tuple[Source, int]":
        """The source that the image at `place` comes from, and its place there: where this one is of other sources."""
        return self, place

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def path(self, index: int) -> str:
        """What tables show for the image; names that are not UTF-8 hold surrogates (see `printable`)."""

    @abstractmethod
    def read(self, index: int) -> bytes | NDArray[np.uint8]:
        """The file's bytes, or pixels (H, W) or (H, W, 3) that the caller may write to.

        Raises:
            OSError: the file has vanished or cannot be read.
        """
