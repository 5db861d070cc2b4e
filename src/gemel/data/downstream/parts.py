"""What a dataset of the transfer protocols is made of, and how its files are found."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gemel.data.listing import Paths
from gemel.data.sources import ArraySource, FileSource, Source
from gemel.data.sources.parts import Joined
from gemel.errors import UserError
from gemel.text_files import read_text

Metric = Literal["top1", "mean_per_class", "map11"]
"""top-1 accuracy, mean of the classes' accuracies, mean of the classes' 11-point average precisions"""


class Downstream(NamedTuple):
    """A dataset, split."""

    described: "Described"
    label_names: list[str]
    train: Source
    val: Source
    test: Source
    val_rule: str
    """where the validation images come from"""
    targets: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None = None
    """of train, val and test, (N, C), where an image may hold several classes: 1 there, 0 not, -1 not judged"""

    @property
    def fitted(self) -> Source:
        """Train and val together, in this order."""
        return Joined(self.train, self.val)


@dataclass(frozen=True)
class Described:
    """What is known of a dataset without its files.

    Args:
        name: as --data takes it.
        title: as the tables print it.
        classes: how many the whole set has.
        metric: that the papers report.
        layout: the files that must be there.
        origin: where to get them.
        counts: images of train, val and test in the whole set, as published.
        read: finds the files.
    """

    name: str
    title: str
    classes: int
    metric: Metric
    layout: str
    origin: str
    counts: tuple[int, int, int]
    read: Callable[["Described", Path, int], Downstream]


class Layout(Protocol):
    """A dataset as messages name it."""

    @property
    def title(self) -> str:
        """As the tables print it."""
        ...

    @property
    def layout(self) -> str:
        """The files that must be there."""
        ...

    @property
    def origin(self) -> str:
        """Where to get them."""
        ...


Listed = Sequence[tuple[str, int]]
"""Paths below the set's folder, with their labels"""


def files(described: Described, base: Path, listed: Listed, names: list[str]) -> Source:
    """Return the images of a list, all of which must be there.

    Raises:
        UserError: the list is empty, or files are missing.
    """
    if not listed:
        raise UserError(f"{described.title} in {base} lists no image; expected {described.layout}")
    missing = [path for path, _ in listed if not (base / path).is_file()]
    if missing:
        raise UserError(
            f"{described.title} in {base}: {len(missing)} of {len(listed)} listed images are missing, the first is "
            f"{missing[0]}; expected {described.layout}. {described.origin}"
        )
    root = str(base)
    source = FileSource(described.name, root, root, Paths.of([os.fsencode(path) for path, _ in listed]))
    return labelled(source, [label for _, label in listed], names)


def labelled(source: Source, labels: Iterable[int], names: list[str]) -> Source:
    """Give a source its labels, and return it."""
    source.labels = np.fromiter(labels, np.int64)
    source.label_names = list(names)
    return source


def pixels(
    described: Described, images: NDArray[np.uint8], labels: NDArray[np.int64], names: list[str], part: str
) -> Source:
    """Return images in memory, with their labels."""
    return labelled(ArraySource(f"{described.name}:{part}", images), labels.tolist(), names)


def folder_of(described: Layout, root: Path, names: Sequence[str], needed: Sequence[str]) -> Path:
    """Return the first of root / name and root itself that holds all the needed files or folders.

    Raises:
        UserError: none does: what is missing, what was found.
    """
    folders = [root / name for name in names if (root / name).is_dir()] + [root]
    for base in folders:
        if all((base / one).exists() for one in needed):
            return base
    missing = [one for one in needed if not (folders[0] / one).exists()]
    found = sorted(path.name for path in folders[0].iterdir())
    shown = ", ".join(found[:8]) + (" ..." if len(found) > 8 else "") if found else "nothing"
    raise UserError(
        f"{described.title} is not in {folders[0]}: {', '.join(missing)} missing, found {shown}; "
        f"expected {described.layout}. {described.origin}"
    )


def lines_of(described: Layout, file: Path) -> list[str]:
    """Return the lines of a list that are not empty, stripped.

    Raises:
        UserError: the list is missing or is no text.
    """
    try:
        return [line.strip() for line in read_text(file).split("\n") if line.strip()]
    except UserError as error:
        raise UserError(f"{described.title}: {error}; expected {described.layout}. {described.origin}") from error


def malformed(described: Layout, file: Path, what: object) -> UserError:
    """Return the error about a line or a table that the dataset's authors do not write."""
    return UserError(f"{described.title}: {file} holds {what!r}, which no such file does; expected {described.layout}")


def draw_share(count: int, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return indices to fit on and to validate on: `share` of all at random, rounded; each sorted."""
    shuffled = np.random.default_rng(seed).permutation(count)
    held = min(max(round(share * count), 1), count - 1)
    return np.sort(shuffled[held:]), np.sort(shuffled[:held])


def draw_each(
    labels: NDArray[np.int64], seed: int, counts: Callable[[int], tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return, of each class at random, indices to fit on, to validate on, and the rest; each sorted.

    Args:
        labels: (N,).
        seed: of the draw.
        counts: from how many images a class has, how many to fit on and to validate on.
    """
    random = np.random.default_rng(seed)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in np.unique(labels):
        shuffled = random.permutation(np.flatnonzero(labels == label))
        fitted, chosen = counts(len(shuffled))
        for part, indices in zip(parts, np.split(shuffled, [fitted, fitted + chosen]), strict=True):
            part.extend(indices.tolist())
    first, second, rest = (np.sort(np.array(part, np.int64)) for part in parts)
    return first, second, rest
