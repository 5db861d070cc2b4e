"""The state of a fit that has not ended, one file that is gone at the end; and the signals that stop it."""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from gemel.data.sources import Source
from gemel.distributed import rank
from gemel.engine.checkpoints import read_tensors, written
from gemel.errors import UserError
from gemel.runs.run import write_atomically
from gemel.supervised.images import Labelled

STATE = ("done", "network", "heads", "optimizer", "history", "unreadable")
"""what a state holds"""


class StateFile:
    """evaluations/.fit-<hash of the question>.ckpt: another question never goes on from it.

    Args:
        folder: the subject's.
        question: everything that the fit's outcome depends on.
    """

    def __init__(self, folder: Path, question: Mapping[str, Any]) -> None:
        text = json.dumps(question, sort_keys=True, default=str)
        self.path = folder / "evaluations" / f".fit-{hashlib.sha256(text.encode()).hexdigest()[:16]}.ckpt"

    def read(self) -> dict[str, Any] | None:
        """The state; None if there is none. One that is damaged is dropped, with a word: the fit begins anew."""
        if not self.path.is_file():
            return None
        try:
            state = read_tensors(self.path)
            missing = [key for key in STATE if key not in state]
            if missing:
                raise UserError(f"{self.path} is no state of a fit: {', '.join(missing)} missing")
        except UserError as error:
            if rank() == 0:
                print(f"{error}; the fit begins anew", file=sys.stderr, flush=True)
            return None
        return state

    def write(self, state: Mapping[str, Any]) -> None:
        """Keep tensors, numbers and strings; of several processes the first one writes.

        Raises:
            OSError: the disk is full, or refuses.
        """
        if rank() == 0:
            kept = dict(state)
            write_atomically(self.path, lambda place: written(lambda: torch.save(kept, place), self.path))

    def remove(self) -> None:
        """The fit has ended."""
        if rank() == 0:
            self.path.unlink(missing_ok=True)


class Signals:
    """Whether SIGINT or SIGTERM asked to stop; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.asked = False
        self._handlers: dict[int, Any] = {}

    @contextmanager
    def taken(self) -> Generator[None]:
        """Take the signals over, and give them back at the end."""
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._ask)
        except ValueError:  # not in the main thread: its handlers stay as they are
            self._handlers.clear()
        try:
            yield
        finally:
            self._give_back()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._give_back()

    def _give_back(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())


def listing(images: Labelled) -> str:
    """SHA-256 of the images' paths and labels."""
    source: Source = images.source
    found = hashlib.sha256(images.labels.tobytes())
    for place in images.places.tolist():
        found.update(os.fsencode(source.path(place)) + b"\0")
    return found.hexdigest()
