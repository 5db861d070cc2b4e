"""The exceptions that end a command without a traceback; every room may raise them; and a user's words in a message."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr

TEXT_LIMIT = 200
"""letters of a user's word in a message; a path fits, a file's content does not"""

MISTAKE_LIMIT = 2_000
"""letters of one mistake, and `MISTAKES` of them: a message must not fill the terminal"""

MISTAKES = 50


class UserError(ValueError):
    """The user's words or files are at fault: the command line prints the mistakes and leaves with 2.

    Args:
        mistakes: each says what was given, what is allowed and what to do.
    """

    def __init__(self, *mistakes: str) -> None:
        more = (f"... and {len(mistakes) - MISTAKES} more",) if len(mistakes) > MISTAKES else ()
        shown = (one if len(one) <= MISTAKE_LIMIT else f"{one[:MISTAKE_LIMIT]} ..." for one in mistakes[:MISTAKES])
        self.mistakes = (*shown, *more)
        super().__init__("\n".join(self.mistakes))


class Interrupted(RuntimeError):
    """A signal ended the training, the checkpoint is written: the command line leaves with 130."""


class Diverged(RuntimeError):
    """The loss is no longer a number; the last good checkpoint is kept: the command line leaves with 1."""


def brief(value: object) -> str:
    r"""A value that a user gave, on one line of bounded length, in characters that every terminal shows.

    >>> brief("ä\n"), brief([1, [2, [3]]]), len(brief("x" * 999))
    ('ä\\n', '[1, [2, [...]]]', 203)
    """
    text = value if isinstance(value, str) else _Brief().repr(value)
    short = text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}..."
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in short)


def nearest(name: object, names: Iterable[str]) -> str:
    """Return `; did you mean X?` where a known name is near, else nothing."""
    near = get_close_matches(str(name)[:100], list(names), n=1, cutoff=0.5)  # a longer one costs its square
    return f"; did you mean {near[0]}?" if near else ""


def unknown(what: str, name: object, names: Iterable[str]) -> str:
    """Return the message for a name that stands for nothing.

    >>> unknown("format", "onxx", ["onnx", "timm"])
    "format 'onxx' is unknown; there are onnx, timm; did you mean onnx?"
    """
    known = list(names)
    return f"{what} {brief(name)!r} is unknown; there are {', '.join(known)}{nearest(name, known)}"


def system_words(error: OSError) -> str:
    """What the system refused, where, and for the commonest reasons what to do."""
    advice = {
        errno.ENOSPC: "; make room on that disk, or choose another",
        errno.EDQUOT: "; the quota is used up: make room, or choose another disk",
        errno.EFBIG: "; a file may not grow so large here (ulimit -f), or the disk is full",
        errno.EROFS: "; choose a place that can be written",
        errno.EACCES: "; choose a place that you may read and write",
        errno.ENAMETOOLONG: "; give a shorter name",
        errno.EMFILE: "; raise the limit with ulimit -n, or lower --workers",
    }
    place = f"{brief(str(error.filename))}: " if error.filename is not None else ""
    return f"{place}{error.strerror or error}{advice.get(error.errno or 0, '')}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, torch on a CPU or torch on a GPU found no room; torch has no one exception for it."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(
        one in words for one in ("allocate memory", "out of memory", "storage size calculation overflowed")
    )


class _Brief(Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxother, self.maxlong, self.maxstring = 2, 60, 60, 60
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = 4

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write more than 4,300 digits, and 1e18 would be shown as it is anyway.
        return super().repr_int(x, level) if x.bit_length() < 4096 else f"a number of {x.bit_length()} bits"
