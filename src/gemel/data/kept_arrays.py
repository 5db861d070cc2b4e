"""Arrays in the user's cache folder: written whole or not at all, behind a digest, and read only if they are whole."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIGEST = 32  # bytes


def write_arrays(file: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as a digest of 32 bytes, then an npz; nothing is said where that is not possible."""
    content = BytesIO()
    np.savez(content, **arrays)
    data = content.getvalue()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(_digest(data) + data)
        Path(name).replace(file)
    except OSError:
        Path(name).unlink(missing_ok=True)


def read_arrays(file: Path) -> dict[str, NDArray[Any]] | None:
    """Return the arrays of a file that `write_arrays` wrote; None if there is none, or it is damaged."""
    try:
        stored = file.read_bytes()
    except OSError:
        return None
    data = memoryview(stored)[_DIGEST:]
    if stored[:_DIGEST] != _digest(data):
        return None
    with np.load(BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()
