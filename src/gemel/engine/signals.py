"""The signals that ask a loop to stop after its step."""

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from gemel.launcher import REQUEUE


class Signals:
    """Whether a signal asked to stop; a second one ends the process at once.

    Attributes:
        received: its number; None before.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._handlers: dict[int, Any] = {}

    @property
    def requeues(self) -> bool:
        """Whether SLURM announced the end of the job's time."""
        return self.received is not None and self.received == REQUEUE

    @contextmanager
    def taken(self) -> Generator[None]:
        """Take over SIGINT, SIGTERM and SLURM's; the caller's handlers return at the end."""
        asks_again = [REQUEUE] if REQUEUE is not None and "SLURM_JOB_ID" in os.environ else []
        try:
            for number in (signal.SIGINT, signal.SIGTERM, *asks_again):
                self._handlers[number] = signal.signal(number, self._receive)
        except ValueError:  # not in the main thread: its handlers stay as they are
            self._handlers.clear()
        try:
            yield
        finally:
            self._give_back()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._give_back()

    def _give_back(self) -> None:
        while self._handlers:
            signal.signal(*self._handlers.popitem())
