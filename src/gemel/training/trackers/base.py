"""Tracker: a program that shows the rows of many runs side by side."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from gemel.hashing import hash_of
from gemel.runs.run import Run

Status = Literal["finished", "failed", "interrupted"]

PROJECT = "gemel"
"""what the runs are collected under, unless the tracker's own variable names another project"""


class Tracker(ABC):
    """Takes the rows of one run. The package is imported inside, as it is an extra.

    Args:
        run: what is tracked.
        step: steps done before: the tracker's run is continued from there.
    """

    package: ClassVar[str]
    """what is imported"""
    failures: tuple[type[Exception], ...] = (OSError,)
    """what the package raises where its server, its account or its files are at fault"""
    where: str
    """where the rows go, for the user"""

    @abstractmethod
    def __init__(self, run: Run, step: int) -> None: ...

    @abstractmethod
    def log(self, row: Mapping[str, float | int], step: int) -> None:
        """Take the numbers of a row, after so many steps in all."""

    @abstractmethod
    def close(self, status: Status) -> None:
        """Write everything out; nothing follows."""


def identity_of(run: Run) -> str:
    """Return what tells a run from all others, and is the same when it is continued: its folder and when it began."""
    began = str(run.environment.get("started", ""))
    return hash_of([str(run.path.resolve()).encode(errors="surrogateescape"), began.encode()], 12)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings with dotted keys.

    >>> flat({"epochs": 3, "optimizer": {"name": "sgd", "lr": 0.1}})
    {'epochs': 3, 'optimizer.name': 'sgd', 'optimizer.lr': 0.1}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
