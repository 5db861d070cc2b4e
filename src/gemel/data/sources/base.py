"""Images in a fixed order, wherever they come from."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gemel.data.pixel_values import Decoding, Display
from gemel.data.survey import survey_source

if TYPE_CHECKING:
    from gemel.data.sources.parts import Subset


class Source(ABC):
    """Images in a fixed order; small to send to worker processes.

    Args:
        name: as the user gave it.
        labels: (N,), -1 where unknown; None without labels. They never train anything.
        label_names: what each label is called.
        stated_classes: how many classes the dataset's description states.
    """

    in_memory: bool = False
    """whether `read` gives pixels that are held in memory already"""

    width: int | None = None
    """numbers in each of the vectors that stand in place of images; None: there are images"""

    display: Display = Display()
    """how pixels become pictures"""

    has_folders: bool = False
    """whether keys are paths whose first folder may tell a class"""

    passed_over: Counter[str]
    """files beside the images that are not read, by ending"""

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
        self.passed_over = Counter()

    @cached_property
    def decoding(self) -> Decoding:
        """How the files become pixels: what was assigned (as a run's settings say), else found from a sample."""
        return survey_source(self).decoding

    @property
    def folders(self) -> Sequence[str]:
        """What paths in a table of labels may be relative to; then they are compared with `file`, else with `path`."""
        return [""]

    @property
    def columns(self) -> Sequence[str]:
        """Names of what came with the images in a table, any of which may be their labels."""
        return ()

    def column(self, name: str) -> list[str]:
        """Return what the table says of each image, as text; empty where it says nothing."""
        raise KeyError(name)

    def rename_labels(self, names: Sequence[str]) -> None:
        """Number the labels by their index in `names`; a name that is missing there becomes unknown, -1."""
        if self.labels is not None:
            number = {name: label for label, name in enumerate(names)}
            table = np.array([*(number.get(name, -1) for name in self.label_names), -1], np.int64)
            self.labels = table[self.labels]
            self.label_names = list(names)

    def subset(self, indices: NDArray[np.int64]) -> "Subset":
        """Return the images at `indices` (N,), in that order, with their labels; nothing is copied."""
        from gemel.data.sources.parts import Subset  # which derives from this class

        return Subset(self, np.asarray(indices, np.int64))

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def path(self, index: int) -> str:
        """Return what tables show for the image; names that are not UTF-8 hold surrogates (see `printable`)."""

    @abstractmethod
    def read(self, index: int) -> bytes | NDArray[Any]:
        """Return the file's bytes, or pixels (H, W) or (H, W, C) that the caller may write to.

        Raises:
            OSError: the file has vanished or cannot be read.
        """

    def key(self, index: int) -> str:
        """Return the image's name within its folder or dataset: the same wherever the folder lies."""
        return self.path(index)

    def file(self, index: int) -> str | None:
        """Return the absolute path of the file that holds this image alone; None if there is none."""
        return None

    def file_size(self, index: int) -> int | None:
        """Return the bytes of the image's file where they are known without reading it; None: they are not."""
        return None

    def identity(self, index: int) -> Hashable:
        """Return which image this is: equal for two entries that are one, by whatever path."""
        return id(self), index

    @abstractmethod
    def version(self, index: int) -> bytes:
        """Return what differs between two images, and between two states of one: for keys of caches."""
