"""Progress of work with a known end: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS = 10.0
"""between two lines where there is no terminal"""

REFRESH = 0.2
"""seconds between two updates of the bar"""

Say = Callable[[str], None]
"""where lines for the user go"""


class Display:
    """One piece of work, as a context manager.

    Args:
        total: steps of it.
        done: steps done before.
        say: prints a line; None: nothing is shown.
        bar: whether a terminal may show a bar in place of lines.
        patient: whether work that takes less than `SECONDS` is not shown.
    """

    def __init__(
        self, total: int, *, done: int = 0, say: Say | None = print, bar: bool = True, patient: bool = False
    ) -> None:
        self.total, self._say, self._first, self._patient = total, say, done, patient
        self._begun = time.monotonic()
        self._next = self._begun + SECONDS if patient else 0.0
        self._bar: Progress | None = None
        self._row: Any = None
        if say is not None and bar and sys.stdout.isatty():
            columns = (TextColumn("{task.fields[label]}"), BarColumn(10), TextColumn("{task.fields[text]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Console())
            self._row = self._bar.add_task("", total=total, completed=done, label="", text="")

    def __enter__(self) -> "Display":
        self._begun = time.monotonic()
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, describe: Callable[[bool], tuple[str, str]]) -> None:
        """Show how far it is, if it is time to.

        Args:
            done: steps done.
            describe: returns what stands before the bar (or the count) and behind it; told whether it must be short.
        """
        now = time.monotonic()
        if self._say is None or (now < self._next and (self._patient or done < self.total)):
            return
        label, text = describe(self._bar is not None)
        if self._bar is not None:
            self._next = now + REFRESH
            self._bar.update(self._row, completed=done, label=label, text=text)
            return
        self._next = now + SECONDS
        left = (now - self._begun) / max(1, done - self._first) * (self.total - done)
        self._say(f"{label} {done}/{self.total}  {text}{'  ' if text else ''}{clock(left)} left".strip())


def clock(seconds: float) -> str:
    """Return seconds as 1:05 or 2:03:04.

    >>> clock(65), clock(7384)
    ('1:05', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
