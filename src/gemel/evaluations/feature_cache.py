"""Where the rows of a pass are kept: files in FOLDER/cache/features/KEY, each row at its image's place."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemel.data.sources import ArraySource, Source
from gemel.distributed import rank
from gemel.engine.checkpoints import fingerprint
from gemel.errors import UserError
from gemel.evaluations.base import Subject
from gemel.evaluations.splits import stable_path
from gemel.runs.run import write_text

FORMAT = 2
"""of the files and of the crop; a new number makes every pass anew"""

UNSEEN, READABLE, REJECTED = range(3)
"""what is known of an image while a pass is under way"""

COPIED = 65_536
"""rows moved at a time"""


def tensors_of(subject: Subject) -> str:
    """SHA-256 of every tensor of the network, and of the method whose classes are judged."""
    return "|".join("" if part is None else fingerprint(part) for part in (subject.network, subject.method))


def key_of(tensors: str, facts: Mapping[str, Any], source: Source) -> str:
    """What the rows depend on: tensors, network, crop and images, as one name of a folder."""
    crop = {name: facts[name] for name in ("name", "options", "size", "mean", "std", "views") if name in facts}
    text = json.dumps([FORMAT, tensors, crop, images_key(source)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def images_key(source: Source) -> str:
    """SHA-256 of the files' paths, sizes and times, or of the pixels of images in memory."""
    found = hashlib.sha256()
    for place in range(len(source)):
        found.update(os.fsencode(stable_path(source, place)))
        found.update(_version(source, place))
    return found.hexdigest()


def _version(source: Source, place: int) -> bytes:
    source, place = source.origin(place)
    if isinstance(source, ArraySource):
        return source.read(place).tobytes()
    try:
        found = os.stat(source.path(place))  # noqa: PTH116 (a name that is not UTF-8)
    except OSError as error:
        return str(error.errno).encode()
    return f"{found.st_size} {found.st_mtime_ns};".encode()


Columns = Mapping[str, tuple[int, type[np.float32] | type[np.int32]]]
"""width and type of each array that a pass writes"""


class Kept(NamedTuple):
    """What a finished pass found: by column one row for each readable image."""

    rows: dict[str, Tensor]
    places: NDArray[np.int64]
    rejected: dict[int, str]


class Store:
    """The rows of one pass: while it runs one row for each image, in the end one for each readable image.

    A chunk counts as seen when its rows are on the disk, so a process may die at any time.

    Args:
        folder: of the subject.
        key: see `key_of`.
        images: N.
        columns: what is kept of each image.
    """

    def __init__(self, folder: Path, key: str, images: int, columns: Columns) -> None:
        self.path = folder / "cache" / "features" / key
        self.images = images
        self.columns = columns
        self._begun = {"images": images} | {name: width for name, (width, _) in columns.items()}
        self._open: dict[str, np.memmap[Any, Any]] = {}

    @property
    def writable(self) -> bool:
        """Whether the folder takes files: that of a run which was handed on may not."""
        standing = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.exists())
        return os.access(standing, os.W_OK)

    @property
    def finished(self) -> bool:
        """Whether the pass is complete."""
        return (self.path / "done.json").is_file()

    def prepare(self) -> None:
        """Make the files, or keep those of an interrupted pass; what is damaged is thrown away. For one process.

        Raises:
            UserError: a file stands where the folder should be.
            OSError: the disk is full, or refuses.
        """
        if self._sound():
            return
        shutil.rmtree(self.path, ignore_errors=True)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(f"{self.path} can't be written: a file stands in its way; name a folder") from error
        for name, (width, kind) in self.columns.items():
            self._array(f"{name}.part", (self.images, width), kind, make=True)
        self._array("marks.part", (self.images,), np.uint8, make=True).flush()
        write_text(self.path / "begun.json", json.dumps(self._begun))

    def unseen(self, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these places have no row yet."""
        return self._marks()[places] == UNSEEN

    def put(self, places: NDArray[np.int64], rows: Mapping[str, Tensor]) -> None:
        """Write rows by column; they count only when their chunk is settled."""
        for name, (width, _) in self.columns.items():
            if rows[name].shape[1] != width:
                raise UserError(f"the network gives {rows[name].shape[1]} {name}, not {width}")
            self._part(name)[places] = rows[name].numpy()

    def settle(self, places: NDArray[np.int64], rejected: Mapping[int, str]) -> None:
        """All of these places were tried, and these of them can't be read: from now on they are not tried again."""
        for name in self.columns:
            self._part(name).flush()
        with (self.path / f"rejected-{rank()}.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps([place, reason]) + "\n" for place, reason in sorted(rejected.items()))
            file.flush()
            os.fsync(file.fileno())
        marks = self._marks()
        bad = np.isin(places, list(rejected))
        marks[places[~bad]], marks[places[bad]] = READABLE, REJECTED
        marks.flush()

    def finish(self) -> None:
        """One row for each readable image, in their order; for one process, when all are through."""
        places = np.flatnonzero(self._marks() == READABLE)
        for name, (width, kind) in self.columns.items():
            part = self._part(name)
            if 0 < len(places) < self.images:
                whole = self._array(name, (len(places), width), kind, make=True)
                for start in range(0, len(places), COPIED):
                    whole[start : start + COPIED] = part[places[start : start + COPIED]]
                whole.flush()
        self._open.clear()
        for name in self.columns:
            if len(places) == self.images:
                (self.path / f"{name}.part.npy").replace(self.path / f"{name}.npy")
        np.save(self.path / "places.npy", places)
        rejected = self._rejected()
        write_text(self.path / "done.json", json.dumps({"rows": len(places), "rejected": rejected}))
        for leftover in (*self.path.glob("*.part.npy"), *self.path.glob("rejected-*"), self.path / "begun.json"):
            leftover.unlink(missing_ok=True)

    def read(self) -> Kept:
        """What a finished pass found.

        Raises:
            OSError: a file is missing.
            ValueError: a file is damaged.
        """
        done = json.loads((self.path / "done.json").read_text(encoding="utf-8"))
        rows = int(done["rows"])
        found: dict[str, Tensor] = {}
        for name, (width, kind) in self.columns.items():
            shape = rows, width
            # c: writing changes memory alone, and torch takes no array that can't be written to
            array = np.load(self.path / f"{name}.npy", mmap_mode="c") if rows else np.empty(shape, kind)
            if array.shape != shape or array.dtype != kind:
                raise ValueError(f"{name} of shape {array.shape}, not {shape}")
            found[name] = torch.from_numpy(array)
        places = np.load(self.path / "places.npy")
        if places.shape != (rows,):
            raise ValueError(f"{places.shape} places for {rows} rows")
        rejected = {int(place): str(reason) for place, reason in done["rejected"].items()}
        return Kept(found, places, rejected)

    def _sound(self) -> bool:
        """Whether there is a finished pass, or a begun one, that can be used."""
        try:
            if self.finished:
                self.read()
                return True
            begun = json.loads((self.path / "begun.json").read_text(encoding="utf-8"))
            parts = [self._part(name) for name in self.columns]
            return begun == self._begun and len({len(one) for one in (*parts, self._marks())}) == 1
        except (OSError, ValueError, KeyError, TypeError):
            self._open.clear()
            return False

    def _part(self, name: str) -> np.memmap[Any, Any]:
        width, kind = self.columns[name]
        return self._array(f"{name}.part", (self.images, width), kind)

    def _marks(self) -> np.memmap[Any, Any]:
        return self._array("marks.part", (self.images,), np.uint8)

    def _array(self, name: str, shape: tuple[int, ...], kind: Any, *, make: bool = False) -> np.memmap[Any, Any]:
        """The file NAME.npy mapped into memory."""
        if make or name not in self._open:
            path = self.path / f"{name}.npy"
            if make:
                self._open[name] = np.lib.format.open_memmap(path, "w+", kind, shape)
            else:
                self._open[name] = np.lib.format.open_memmap(path, "r+")
        found = self._open[name]
        if found.shape != shape or found.dtype != kind:
            raise ValueError(f"{name} of shape {found.shape}, not {shape}")
        return found

    def _rejected(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for file in sorted(self.path.glob("rejected-*.jsonl")):
            for line in file.read_text(encoding="utf-8").splitlines():
                try:
                    place, reason = json.loads(line)
                except ValueError:  # cut short when the process died; the place was not settled and came again
                    continue
                found[int(place)] = str(reason)
        return dict(sorted(found.items()))
