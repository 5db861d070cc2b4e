"""Archives as torch writes them: is every byte as it was written?"""

import zipfile
import zlib
from pathlib import Path


def is_whole(archive: Path) -> bool:
    """Whether a zip archive, as torch writes checkpoints, stands there with every byte as it was written."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return opened.testzip() is None  # reads all and compares the sums
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, ValueError):
        return False
