"""The user's words for images, labels and weights: paths written out, and messages where they mean nothing."""

# as in listing.py: a name need not be text
# ruff: noqa: PTH100, PTH110, PTH111, PTH118, PTH208
import difflib
import os
from collections import Counter
from typing import Any

from gemel.data.listing import SUFFIXES, Listing, printable
from gemel.errors import brief

LABEL_WORDS = (None, "own", "none", "folders")
"""what may be said of labels beside a table's path"""

WEIGHT_WORDS = ("packaged", "timm")
"""what may be said of weights beside a run's or a file's path"""

KINDS = 8
"""of files that are counted one by one in a message"""


def in_full(word: Any) -> Any:
    """Return the user's word for images, labels or weights, a path written out: it holds in any working folder."""
    if not isinstance(word, str | os.PathLike):
        return word
    path = os.path.expanduser(os.fsdecode(word))
    is_pattern = any(letter in path for letter in "{*") and "://" not in path  # as shards-{000..127}.tar
    is_path = is_pattern or (os.path.exists(path) and word not in LABEL_WORDS)
    return os.path.abspath(path) if is_path else os.fsdecode(word)


def counted(passed_over: Counter[str]) -> str:
    """Return how many files of each kind there are, the commonest first.

    >>> counted(Counter({".txt": 3, "no ending": 1}))
    '3 .txt, 1 no ending'
    """
    shown = [f"{count:,} {kind}" for kind, count in passed_over.most_common(KINDS)]
    more = passed_over.total() - sum(count for _, count in passed_over.most_common(KINDS))
    return ", ".join([*shown, f"{more:,} others"] if more else shown)


def no_images(given: str, listing: Listing) -> str:
    """Return what is wrong with a folder without images."""
    wanted = ", ".join(sorted(os.fsdecode(suffix) for suffix in SUFFIXES))
    if not listing.passed_over:
        return f"the folder {printable(given)} is empty; give one that holds images ({wanted})"
    found = f"{listing.passed_over.total():,} other files ({counted(listing.passed_over)})"
    return f"no images in the folder {printable(given)}, but {found}; images end in {wanted}"


def nothing_of_that_name(given: str, names: list[str]) -> str:
    """Return what is wrong with a name of nothing, and which datasets and files beside it are near."""
    folder, last = os.path.split(given.rstrip(os.sep))
    try:
        beside = os.listdir(folder or ".")
    except (OSError, ValueError):
        beside = []
    near = difflib.get_close_matches(given, names, 1)
    near += [os.path.join(folder, name) for name in difflib.get_close_matches(last, beside, 1)]
    guess = f"did you mean {' or '.join(map(printable, near))}? " if near else ""
    return (
        f"there is no folder, list or dataset {brief(given)!r}; {guess}give a folder of images, a text file "
        f"of paths, an archive, a table (docs/formats.md) or a dataset: {', '.join(names)}"
    )
