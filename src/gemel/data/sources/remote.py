"""A folder on another machine, or in another file system, by its address: s3://bucket/photos, memory://photos."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from gemel.data.listing import ARRAYS, Paths, images_or_arrays, other_kind, printable
from gemel.data.messages import counted
from gemel.data.sources.base import Source
from gemel.data.sources.random_access import BYTES_LIMIT
from gemel.errors import UserError, brief, nearest
from gemel.extras import extra

_MARKS = ("size", "ETag", "etag", "md5Hash", "mtime", "last_modified", "LastModified", "created")
"""what file systems tell of the state of a file"""


class RemoteSource(Source):
    """Files that fsspec reads.

    Args:
        name: the address, as the user gave it.
        system: fsspec's.
        root: the folder there.
        paths: each file, relative to the folder.
        marks: state of each file when it was listed.
    """

    has_folders = True

    def __init__(self, name: str, system: Any, root: str, paths: Paths, marks: Paths) -> None:
        super().__init__(name)
        self._system, self._root, self._paths, self._marks = system, root, paths, marks

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def folders(self) -> Sequence[str]:
        """The address."""
        return ["", self.name.rstrip("/")]

    def path(self, index: int) -> str:
        """Return the address, and the path below it."""
        return f"{self.name.rstrip('/')}/{self.key(index)}"

    def key(self, index: int) -> str:
        """Return the path below the address."""
        return self._paths[index].decode("utf-8", "surrogateescape")

    def file_size(self, index: int) -> int | None:
        """Return the file's bytes, if the file system tells."""
        name, _, number = self._marks[index].partition(b" ")[0].partition(b"=")
        return int(number) if name == b"size" and number.isdigit() else None

    def identity(self, index: int) -> Hashable:
        """Return the address of the file."""
        return self.path(index)

    def version(self, index: int) -> bytes:
        """Return the address, and what the file system tells of the file's state."""
        return self.path(index).encode("utf-8", "surrogateescape") + b" " + self._marks[index]

    def read(self, index: int) -> bytes:
        """Return the file's bytes.

        Raises:
            OSError: it has vanished or can't be read, or is larger than `BYTES_LIMIT`.
        """
        return self._system.cat_file(f"{self._root}/{self.key(index)}", end=BYTES_LIMIT)


def open_remote(given: Any) -> Source | None:
    """Return the images below an address; None if `given` is none.

    Raises:
        UserError: fsspec, or what it needs for the protocol, is not installed; the folder can't be listed or is empty.
    """
    protocol, is_address, _ = given.partition("://") if isinstance(given, str) else ("", "", "")
    if not is_address or not protocol.replace("+", "").isalnum():
        return None
    fsspec = extra("fsspec", "formats", brief(given))
    known = fsspec.available_protocols()
    if protocol not in known:
        raise UserError(f"{brief(given)}: fsspec knows no {brief(protocol)}://{nearest(protocol, known)}")
    try:
        system, root = fsspec.core.url_to_fs(given)
        files: Mapping[str, Mapping[str, Any]] = system.find(root, detail=True)
    except ImportError as error:
        raise UserError(f"{brief(given)} needs another package: {error}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{brief(given)} can't be listed: {error}") from error
    found, passed_over = _images(files, root.rstrip("/"))
    if not found:
        what = f", but {counted(passed_over)}" if passed_over else ""
        raise UserError(f"no images at {printable(given)}{what}")
    source = RemoteSource(given, system, root.rstrip("/"), Paths.of(list(found)), Paths.of(list(found.values())))
    source.passed_over = passed_over
    return source


def _images(files: Mapping[str, Mapping[str, Any]], root: str) -> tuple[dict[bytes, bytes], Counter[str]]:
    """Return the state of each image by its path below the folder, sorted by path, and other files by ending."""
    marks: dict[bytes, bytes] = {}
    images, arrays, passed_over = list[bytes](), list[bytes](), Counter[str]()
    for path, facts in files.items():
        below = path.removeprefix(root).removeprefix("/").encode("utf-8", "surrogateescape")
        kind = other_kind(below)
        if facts.get("type") == "directory" or below.startswith(b".") or b"/." in below:
            continue
        if kind and kind[1:].encode() not in ARRAYS:
            passed_over[kind] += 1
            continue
        (arrays if kind else images).append(below)
        marks[below] = " ".join(f"{name}={facts[name]}" for name in _MARKS if name in facts).encode()
    return {one: marks[one] for one in sorted(images_or_arrays(images, arrays, passed_over))}, passed_over
