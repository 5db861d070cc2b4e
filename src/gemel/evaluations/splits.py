"""Which images a protocol fits on and which it is judged by: apart from each other, and of the same classes."""

import difflib
import hashlib
import os

import numpy as np
from numpy.typing import NDArray

from gemel.data.sources import Source
from gemel.data.sources.identity import first_listed, groups, shared
from gemel.errors import UserError
from gemel.text_files import composed, shortened

HOLD_OUT = "80/20 of each class by SHA-256 of the path"
"""how `hold_out` splits, for a result's settings"""


def hold_out(source: Source, share: float = 0.2) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return indices to fit on and to be judged by; images of unknown label are in neither.

    In each class the images whose path has the smallest hash are held out: `share` of them, rounded, at least one
    where the class has two, never all. An image stays on its side when others come or go, but at the border, and in
    whatever order they are listed. Copies of one image stay on one side, where the class has others. Without labels
    all images are one class.

    Args:
        source: the images; paths count from the folder, so that the folder may be moved.
        share: of each class, 0..1.

    Returns:
        Training and test indices, each sorted.
    """
    labels = np.zeros(len(source), np.int64) if source.labels is None else source.labels
    hashes = np.array([_hash(source.key(index)) for index in range(len(source))], np.uint64)
    least, same = np.full(len(source), np.iinfo(np.uint64).max, np.uint64), groups(source)
    np.minimum.at(least, same, hashes)
    hashes = least[same]  # of copies the smallest
    held: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for label in np.unique(labels[labels >= 0]):
        indices = np.flatnonzero(labels == label)
        count = min(max(round(share * len(indices)), 1 if share > 0 else 0), len(indices) - 1)
        ordered = indices[np.argsort(hashes[indices], kind="stable")]
        held.append(ordered[: _border(hashes[ordered], count)])
    test = np.sort(np.concatenate(held))
    return np.setdiff1d(np.flatnonzero(labels >= 0), test), test


def kept_apart(train: Source, test: Source | None) -> tuple[Source, Source | None, dict[str, int]]:
    """Return the images, each listed once and none in both, and how many entries were left out.

    Of several entries that are one file the first counts. A training image that is a test image too, or a copy of
    one, is left out of training.

    Raises:
        UserError: every training image is a test image.
    """
    counts = {"repeated_images": 0}
    train = _once(train, counts)
    if test is None:
        return train, None, counts
    test = _once(test, counts)
    double = shared(train, test)
    if double.all():
        raise UserError(
            f"every image of {train.name} is in the test set {test.name} too: each would be its own neighbour; give "
            "other images with --test, or leave it out"
        )
    if double.any():
        train = train.subset(np.flatnonzero(~double))
    return train, test, counts | {"shared_images": int(double.sum())}


def match_labels(train: Source, test: Source, *, any_class: bool) -> None:
    """Number the test set's labels as the training images' are.

    Args:
        train: the images to fit on; without labels nothing is matched.
        test: the images to be judged by; its labels are changed.
        any_class: whether the test set may hold classes that the training images lack.

    Raises:
        UserError: it holds such classes, and may not.
    """
    if train.labels is None or test.labels is None:
        return
    known = [train.label_names[label] for label in np.unique(train.labels[train.labels >= 0])]
    counts = dict(zip(*np.unique(test.labels[test.labels >= 0], return_counts=True), strict=True))
    strangers = [test.label_names[label] for label in counts if test.label_names[label] not in known]
    if strangers and known and not any_class:
        left = sum(int(count) for label, count in counts.items() if test.label_names[label] in strangers)
        raise UserError(
            f"{len(strangers)} classes of the test set {test.name} ({left} of its images) have no image in "
            f"{train.name}: {shortened([_with_near(name, known) for name in strangers])}; rename them, or leave their "
            "images out"
        )
    test.rename_labels([*train.label_names, *(name for name in strangers if name not in train.label_names)])


def _border(ordered: NDArray[np.uint64], count: int) -> int:
    """The count, moved to where the sorted values change, if they do."""
    if not 0 < count < len(ordered):
        return count
    first, last = (int(np.searchsorted(ordered, ordered[count], side)) for side in ("left", "right"))
    return first if first > 0 else last if last < len(ordered) else count


def _once(source: Source, counts: dict[str, int]) -> Source:
    kept = first_listed(source)
    counts["repeated_images"] += len(source) - len(kept)
    return source if len(kept) == len(source) else source.subset(kept)


def _with_near(name: str, known: list[str]) -> str:
    """A name, and a known one that may be meant."""
    plain = {composed(one).casefold().strip(): one for one in known}
    near = difflib.get_close_matches(composed(name).casefold().strip(), plain, 1, 0.8)
    return f"{name} (near: {plain[near[0]]})" if near else name


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(key)).digest()[:8], "big")
