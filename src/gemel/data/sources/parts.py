"""Sources made of others: some of the images of one, or the images of two."""

from abc import abstractmethod
from collections.abc import Hashable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemel.data.pixel_values import Decoding, Display
from gemel.data.sources.base import Source


class _Composed(Source):
    """Images that belong to other sources, which tell everything about them."""

    @abstractmethod
    def _origin(self, index: int) -> tuple[Source, int]:
        """Return the source of the image, and its index there."""

    @cached_property
    def decoding(self) -> Decoding:
        """As the (first) source has it, from all its images."""
        return self._origin(0)[0].decoding

    @cached_property
    def display(self) -> Display:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the (first) source has it."""
        return self._origin(0)[0].display

    def path(self, index: int) -> str:
        """As its source shows it."""
        source, index = self._origin(index)
        return source.path(index)

    def read(self, index: int) -> bytes | NDArray[Any]:
        """As its source gives it; OSError if the file has vanished or cannot be read."""
        source, index = self._origin(index)
        return source.read(index)

    def key(self, index: int) -> str:
        """As its source has it."""
        source, index = self._origin(index)
        return source.key(index)

    def file(self, index: int) -> str | None:
        """As its source has it."""
        source, index = self._origin(index)
        return source.file(index)

    def file_size(self, index: int) -> int | None:
        """As its source has it."""
        source, index = self._origin(index)
        return source.file_size(index)

    def identity(self, index: int) -> Hashable:
        """As its source has it."""
        source, index = self._origin(index)
        return source.identity(index)

    def version(self, index: int) -> bytes:
        """As its source has it."""
        source, index = self._origin(index)
        return source.version(index)


class Subset(_Composed):
    """Some images of a source, in the order asked for.

    Args:
        source: the images.
        indices: which of them, (N,).
    """

    def __init__(self, source: Source, indices: NDArray[np.int64]) -> None:
        labels = None if source.labels is None else source.labels[indices]
        super().__init__(source.name, labels, list(source.label_names), source.stated_classes)
        self.source = source
        self.indices = indices
        self.in_memory = source.in_memory

    def __len__(self) -> int:
        return len(self.indices)

    def _origin(self, index: int) -> tuple[Source, int]:
        return self.source, int(self.indices[index])


class Joined(_Composed):
    """The images of one source, then those of another; both of the same classes."""

    def __init__(self, first: Source, second: Source) -> None:
        given = first.labels, second.labels
        labels = None if given[0] is None or given[1] is None else np.concatenate([given[0], given[1]])
        super().__init__(first.name, labels, list(first.label_names), first.stated_classes)
        self.first, self.second = first, second
        self.in_memory = first.in_memory and second.in_memory

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def _origin(self, index: int) -> tuple[Source, int]:
        return (self.first, index) if index < len(self.first) else (self.second, index - len(self.first))
