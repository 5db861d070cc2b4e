"""Where the rows of a pass are kept: FOLDER/cache/features/KEY, one row for each readable image.

Rows that an earlier pass of the same network made of the same images, though in another list, are taken over. While a
pass is under way each process writes part files of its own, one for each chunk of images that it has seen; in the end
the first process joins them. So no two machines write to one file, and a process may die at any time.
"""

import json
import time
import zipfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemel.data.sources import Source
from gemel.data.sources.identity import version_key
from gemel.engine.frozen import Engine
from gemel.errors import UserError
from gemel.evaluations.base import Subject
from gemel.hashing import hash_of_question, hash_of_tensors
from gemel.runs.files import write_atomically, write_text
from gemel.runs.folder import exclusive

FORMAT = 5
"""of the files and of the crop; another number makes every pass again"""

ENGINE = "engine.txt"
"""of a pass under way: what runs the network"""

MARKS = "marks.npy"
"""of a finished pass: which images its rows are of"""

Columns = Mapping[str, tuple[int, type[np.float32] | type[np.int32]]]
"""width and type of each array that a pass writes"""

_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)


def tensors_of(subject: Subject) -> str:
    """Return a hash of every tensor of the network, and of the method whose classes are judged."""
    parts = (subject.network, subject.method)
    return "|".join("" if part is None else hash_of_tensors(part.state_dict()) for part in parts)


def look_of(tensors: str, facts: Mapping[str, Any], source: Source) -> str:
    """Return a hash of how the rows are made of images: tensors, network, crop and decoding."""
    crop = {name: facts[name] for name in ("name", "options", "size", "mean", "std", "views", "crop") if name in facts}
    return hash_of_question([FORMAT, tensors, crop, source.decoding])


def key_of(tensors: str, facts: Mapping[str, Any], source: Source) -> str:
    """Return a hash of what the rows depend on: tensors, network, crop and images."""
    return hash_of_question([look_of(tensors, facts, source), version_key(source)])


class Cached(NamedTuple):
    """What a finished pass found: by column one row for each readable image."""

    rows: dict[str, Tensor]
    indices: NDArray[np.int64]
    rejected: dict[int, str]


class Store:
    """The rows of one pass.

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

    @property
    def writable(self) -> bool:
        """Whether the folder takes files: that of a run which was handed on may not.

        Raises:
            UserError: a file is in the way.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.path):
                return True
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(f"{self.path} can't be written: a file is in the way; name a folder") from error
        except OSError:
            return False

    @property
    def finished(self) -> bool:
        """Whether there is a finished pass that can be used."""
        try:
            return (self.path / "done.json").is_file() and bool(self.read())
        except _DAMAGED:
            return False

    @contextmanager
    def alone(self) -> Generator[None]:
        """Wait until no other process works on this pass, and keep the others waiting.

        Raises:
            UserError: nothing can be written.
        """
        lock, told = self.path.parent.parent / f"{self.path.name}.lock", False
        if not self.writable:
            raise UserError(f"nothing can be written in {self.path}; copy the run to a folder that you may write to")
        while True:
            with exclusive(lock) as is_mine:
                if is_mine:
                    yield
                    lock.unlink(missing_ok=True)
                    return
            if not told:
                print(f"another process is computing the same features in {self.path}; waiting for it", flush=True)
                told = True
            time.sleep(0.2)

    def prepare(self) -> list[str]:
        """Return the names of the part files of an interrupted pass; what is damaged is deleted. For one process."""
        (self.path / "done.json").unlink(missing_ok=True)
        sound: list[str] = []
        for file in sorted(self.path.glob("part-*.npz")):
            try:
                self._load(file)
                sound.append(file.name)
            except _DAMAGED:
                file.unlink(missing_ok=True)
        return sound

    def engine(self, choose: Callable[[], Engine]) -> Engine:
        """Return what makes the rows, and note it: an interrupted pass is continued by the same, to the last digit.

        Args:
            choose: chooses where no part file is there.
        """
        note, noted = self.path / ENGINE, ""
        if any(self.path.glob("part-*.npz")):
            noted = note.read_text(encoding="utf-8") if note.is_file() else "torch"  # which alone wrote no note
        engine: Engine = next((one for one in get_args(Engine) if one == noted), None) or choose()
        write_text(note, engine)
        return engine

    def unseen(self, parts: Sequence[str]) -> NDArray[np.int64]:
        """Return the indices of the images that are in none of these part files, sorted."""
        return np.setdiff1d(np.arange(self.images), self._joined(parts, "tried"))

    def write_part(self, tried: NDArray[np.int64], rows: Mapping[str, Tensor], rejected: Mapping[int, str]) -> str:
        """Write the rows of a chunk of images, and return the part file's name.

        Args:
            tried: the chunk's indices, sorted.
            rows: by column, one row for each image of the chunk that is not rejected.
            rejected: reasons, by index.
        """
        for name, (width, _) in self.columns.items():
            if rows[name].shape[1] != width:
                raise UserError(f"the network gives {rows[name].shape[1]} {name}, not {width}")
        arrays: dict[str, Any] = {name: rows[name].numpy() for name in self.columns}
        arrays |= {"tried": tried, "readable": tried[~np.isin(tried, list(rejected))]}
        arrays["rejected"] = np.frombuffer(json.dumps(list(rejected.items())).encode(), np.uint8)
        name = f"part-{tried[0]:012}-{tried[-1]:012}.npz"

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)

        write_atomically(self.path / name, write)
        return name

    def adopt(self, look: str, marks: NDArray[np.uint64], parts: Sequence[str]) -> list[str]:
        """Write part files of what finished passes know of images that are in no part file; return all names.

        Args:
            look: as `look_of`.
            marks: of all images, as `version_marks`.
            parts: the part files that are there.
        """
        found = list(parts)
        for path in sorted(self.path.parent.iterdir()):
            unseen = self.unseen(found) if path != self.path else np.empty(0, np.int64)
            if not len(unseen):
                continue
            earlier = Store(self.path.parent.parent.parent, path.name, 0, self.columns)
            try:
                done = json.loads((path / "done.json").read_text(encoding="utf-8"))
                if done["look"] != look:
                    continue
                known, rows = np.load(path / MARKS), earlier.read().rows
            except _DAMAGED:
                continue
            if not len(known):
                continue
            order = np.argsort(known)
            places = order[np.searchsorted(known, marks[unseen], sorter=order).clip(max=len(known) - 1)]
            is_known = known[places] == marks[unseen]
            if is_known.any():
                if not found:  # a pass is continued by the engine that began it
                    write_text(self.path / ENGINE, done["engine"])
                chosen = torch.from_numpy(places[is_known])
                found.append(self.write_part(unseen[is_known], {name: one[chosen] for name, one in rows.items()}, {}))
        return found

    def finish(self, parts: Sequence[str], look: str, marks: NDArray[np.uint64]) -> None:
        """Join the part files to one row for each readable image, in their order; for one process.

        Args:
            parts: their names.
            look: as `look_of`.
            marks: of all images, as `version_marks`.

        Raises:
            UserError: rows are missing.
        """
        missing = self.unseen(parts)
        if len(missing):
            raise UserError(f"{len(missing)} of {self.images} images have no row in {self.path}; run it again")
        readable = np.sort(self._joined(parts, "readable"))
        for name, (width, kind) in self.columns.items() if len(readable) else ():
            whole = np.lib.format.open_memmap(self.path / f"{name}.npy", "w+", kind, (len(readable), width))
            for part in parts:
                with _opened(self.path / part) as arrays:
                    whole[np.searchsorted(readable, arrays["readable"])] = arrays[name]
            whole.flush()
        np.save(self.path / "indices.npy", readable)
        np.save(self.path / MARKS, marks[readable])
        rejected = dict(sorted(pair for part in parts for pair in self._load(self.path / part)))
        note = self.path / ENGINE
        engine = note.read_text(encoding="utf-8") if note.is_file() else "torch"
        done = {"rows": len(readable), "rejected": rejected, "look": look, "engine": engine}
        write_text(self.path / "done.json", json.dumps(done))
        for part in (*self.path.glob("part-*.npz"), self.path / ENGINE):
            part.unlink(missing_ok=True)

    def read(self) -> Cached:
        """Return what a finished pass found.

        Raises:
            OSError: a file is missing.
            ValueError: a file is damaged.
        """
        done = json.loads((self.path / "done.json").read_text(encoding="utf-8"))
        count = int(done["rows"])
        rows: dict[str, Tensor] = {}
        for name, (width, kind) in self.columns.items():
            shape = count, width
            # c: writing changes memory alone, and torch takes no array that can't be written to
            array = np.load(self.path / f"{name}.npy", mmap_mode="c") if count else np.empty(shape, kind)
            if array.shape != shape or array.dtype != kind:
                raise ValueError(f"{name} of shape {array.shape}, not {shape}")
            rows[name] = torch.from_numpy(array)
        indices = np.load(self.path / "indices.npy")
        if indices.shape != (count,):
            raise ValueError(f"{indices.shape} indices for {count} rows")
        return Cached(rows, indices, {int(index): str(reason) for index, reason in done["rejected"].items()})

    def _joined(self, parts: Sequence[str], name: str) -> NDArray[np.int64]:
        """One of the arrays of indices of all these part files."""
        found: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        for part in parts:
            with _opened(self.path / part) as arrays:
                found.append(arrays[name])
        return np.concatenate(found)

    def _load(self, file: Path) -> list[tuple[int, str]]:
        """Check a part file, and return its unreadable images.

        Raises:
            Exception: one of `_DAMAGED`.
        """
        with _opened(file) as arrays:
            rejected = [(int(index), str(reason)) for index, reason in json.loads(arrays["rejected"].tobytes())]
            for name, (width, kind) in self.columns.items():
                if arrays[name].shape != (len(arrays["readable"]), width) or arrays[name].dtype != kind:
                    raise ValueError(f"{name} of shape {arrays[name].shape}")
        return rejected


@contextmanager
def _opened(file: Path) -> Generator[Any]:
    with file.open("rb") as opened, np.load(opened) as arrays:  # numpy alone leaves a damaged file open
        yield arrays
