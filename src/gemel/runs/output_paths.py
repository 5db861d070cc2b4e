"""Whether a file that the user names can be written, found before the work is done."""

from pathlib import Path
from tempfile import TemporaryFile

from gemel.errors import UserError, brief


def check_suffix(path: Path, *allowed: str) -> None:
    """Refuse a table whose format is unknown, or whose place can't be written.

    Raises:
        UserError: another ending, no such folder, a folder, or one that takes no files.
    """
    if path.suffix not in allowed:
        raise UserError(f"--out {brief(str(path))} must end in {' or '.join(allowed)}")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.absolute().parent}; make it first")
    if path.is_dir():
        raise UserError(f"--out {path} is a folder; name a file")
    check_writable(path.absolute().parent, f"--out {path}")


def check_writable(folder: Path, what: str) -> None:
    """By a file that is gone at once: permissions alone don't tell of read-only disks, nor of /proc."""
    try:
        with TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise UserError(f"{what}: nothing can be written in {folder} ({error.strerror}); choose another") from error
