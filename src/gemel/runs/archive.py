"""Zip archives, as torch writes checkpoints: whether every byte is as it was written."""

import zipfile
import zlib
from pathlib import Path


def is_whole(archive: Path) -> bool:
    """Return whether a zip archive exists and its checksums are right."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return opened.testzip() is None  # reads all and compares the sums
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, ValueError):
        return False
