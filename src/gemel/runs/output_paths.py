"""Whether a file that the user names can be written, found before the work is done; names that are short enough."""

import errno
import os
from pathlib import Path
from tempfile import TemporaryFile

from gemel.errors import UserError, brief

NAME_LIMIT = 255
"""bytes of a file's name, on all usual file systems"""


def check_suffix(path: Path, *allowed: str, option: str = "--out") -> None:
    """Refuse a file whose format is unknown, or that can't be written.

    Args:
        path: as the user gave it.
        allowed: endings.
        option: by which it was given, for messages.

    Raises:
        UserError: another ending, no such folder, a folder, one that takes no files, or a name that is too long.
    """
    if path.suffix not in allowed:
        raise UserError(f"{option} {brief(str(path))} must end in {' or '.join(allowed)}")
    try:
        path.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{option} {brief(str(path))}: the name is too long; give a shorter one") from error
    if not path.absolute().parent.is_dir():
        raise UserError(f"{option} {path}: there is no folder {path.absolute().parent}; make it first")
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder; name a file")
    check_writable(path.absolute().parent, f"{option} {path}")


def check_writable(folder: Path, what: str) -> None:
    """Write a file that is gone at once: permissions alone don't tell of read-only disks, nor of /proc.

    Raises:
        UserError: nothing can be written there.
    """
    try:
        with TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise UserError(f"{what}: nothing can be written in {folder} ({error.strerror}); choose another") from error


def short_name(stem: str, ending: str = "") -> str:
    """Return stem and ending as a file name of at most 255 bytes, the stem cut where it is too long.

    >>> short_name("a/b", "-2.jpg"), len(short_name("ä" * 200, ".png").encode())
    ('a/b-2.jpg', 254)
    """
    room = NAME_LIMIT - len(os.fsencode(ending))
    while len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return stem + ending
