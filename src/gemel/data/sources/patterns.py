"""Names of several files in one word: `train-{000..127}.tar`, `shards/*.tar`."""

# pathlib shows "./shards" otherwise than the user gave it
# ruff: noqa: PTH110, PTH113, PTH207
import glob
import os
import re
from itertools import product

from gemel.data.listing import printable
from gemel.errors import UserError
from gemel.text_files import shortened

MOST = 100_000
"""files that a pattern may mean"""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_pattern(word: str) -> bool:
    """Return whether a word means several files; a file of that very name has precedence."""
    return any(letter in word for letter in "{*?[") and not os.path.exists(word)


def files_of(pattern: str) -> list[str]:
    """Return the files that a pattern means, in order.

    Braces hold alternatives or a range of numbers with leading zeros, and each must be there; stars take what is there.

    Raises:
        UserError: files are missing, or there are none or too many.
    """
    named = _expanded(pattern)
    stars = [word for word in named if glob.has_magic(word)]
    missing = [word for word in named if word not in stars and not os.path.isfile(word)]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(named)} files of {printable(pattern)} are not there: {shortened(missing)}"
        )
    found = [path for word in named for path in (sorted(glob.glob(word)) if word in stars else [word])]
    if not found:
        raise UserError(f"no file is called {printable(pattern)}")
    return found


def _expanded(pattern: str) -> list[str]:
    """Return the words that a pattern with braces stands for.

    >>> _expanded("a-{08..10}.{tar,zip}")[:3]
    ['a-08.tar', 'a-08.zip', 'a-09.tar']
    """
    parts = _BRACES.split(pattern)
    choices = [_alternatives(part) if number % 2 else [part] for number, part in enumerate(parts)]
    count = 1
    for one in choices:
        count *= len(one)
    if count > MOST:
        raise UserError(f"{printable(pattern)} means {count:,} files; {MOST:,} at most")
    return ["".join(words) for words in product(*choices)]


def _alternatives(text: str) -> list[str]:
    numbers = _RANGE.fullmatch(text)
    if numbers is None:
        return text.split(",")
    first, last = numbers.groups()
    width = len(first) if first.startswith("0") else 0
    if int(last) - int(first) > MOST:
        raise UserError(f"{{{text}}} means {int(last) - int(first) + 1:,} files; {MOST:,} at most")
    return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
