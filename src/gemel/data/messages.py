"""The user's words for images, labels and weights: paths written out, and what is said where they mean nothing."""

# as in listing.py: a name need not be text
# ruff: noqa: PTH100, PTH110, PTH111, PTH118, PTH208
import difflib
import os
from typing import Any

from gemel.data.listing import SUFFIXES, Listing, printable

LABEL_WORDS = (None, "own", "none", "folders")
"""what may be said of labels beside a table's path"""


def in_full(word: Any) -> Any:
    """Return the user's word for images, labels or weights, a path written out: it holds in any working folder."""
    if not isinstance(word, str | os.PathLike):
        return word
    path = os.path.expanduser(os.fsdecode(word))
    return os.path.abspath(path) if os.path.exists(path) and word not in LABEL_WORDS else os.fsdecode(word)


def no_images(given: str, listing: Listing) -> str:
    """What is wrong with a folder without images."""
    others, endings = (
        listing.passed_over.total(),
        ", ".join(f"{n} {ending}" for ending, n in listing.passed_over.most_common(5)),
    )
    wanted = ", ".join(sorted(os.fsdecode(suffix) for suffix in SUFFIXES))
    if not others:
        return f"the folder {printable(given)} is empty; give one that holds images ({wanted})"
    return f"no images in the folder {printable(given)}, but {others} other files ({endings}); images end in {wanted}"


def nothing_of_that_name(given: str, names: list[str]) -> str:
    """What is wrong with a name of nothing, and which data sets and files beside it are near."""
    folder, last = os.path.split(given.rstrip(os.sep))
    try:
        beside = os.listdir(folder or ".")
    except (OSError, ValueError):
        beside = []
    near = difflib.get_close_matches(given, names, 1)
    near += [os.path.join(folder, name) for name in difflib.get_close_matches(last, beside, 1)]
    guess = f"did you mean {' or '.join(map(printable, near))}? " if near else ""
    return (
        f"there is no folder, list or data set {printable(given)!r}; {guess}give a folder of images, a text file "
        f"of paths, or a data set: {', '.join(names)}"
    )
