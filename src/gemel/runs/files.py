"""Files of a run: written whole or not at all, and read with a message that names them."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import pyarrow as pa

from gemel.errors import UserError, brief

T = TypeVar("T")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk, then rename: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Short, whatever the name: with the whole name in it, a name of 241 bytes would be too long.
    temporary = path.with_name(f".{crc32(os.fsencode(path.name)):08x}.{os.getpid()}.part")
    try:
        write(temporary)
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Write to the disk what the system still holds in memory: a file's bytes, or the names in a folder."""
    if os.name == "nt":  # which opens no folders, and flushes only what it may write
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        UserError: it is damaged.
    """
    return read_file(path, _json)


def read_mapping_of_json(path: Path) -> dict[str, Any] | None:
    """Return the mapping that a JSON file holds; None if there is no file.

    Raises:
        UserError: it is damaged, or holds something else.
    """
    return read_file(path, json_mapping) if path.is_file() else None


def read_file(path: Path, read: Callable[[Path], T]) -> T:
    """Return what a reader makes of a file; whatever is wrong with it, the message names it."""
    try:
        return read(path)
    except (OSError, ValueError, RecursionError, csv.Error, pa.ArrowException) as error:
        reason = brief(" ".join(str(error).split()))
        raise UserError(f"{path} is damaged: {reason}; delete it and run the command again") from error


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def json_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping that a JSON file holds; ValueError if it holds something else."""
    found = _json(path)
    if not isinstance(found, dict):
        raise ValueError(f"it holds {brief(found)} and no mapping")
    return found
