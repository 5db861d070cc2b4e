"""`gemel report RUN --watch`: the report of a run that another process trains, written again whenever it changes."""

import time
from collections.abc import Callable
from pathlib import Path

from gemel.reports import build_report
from gemel.runs.live import Live, read_live
from gemel.runs.run import GALLERY, LIVE, Run

SECONDS = 2.0
"""between two looks"""


def watch(run: Run, out: Path | None, say: Callable[[str], None], *, seconds: float = SECONDS) -> Path:
    """Write the report whenever the run's files change, until the run has ended; return the file.

    Args:
        run: trained by another process, or to be resumed by one.
        out: the file; None: the run's own report.html.
        say: is told how far the run is.
        seconds: between two looks.

    Raises:
        UserError: the file can't be written.
    """
    before: object = None
    while True:
        live = read_live(run)
        goes_on = live is not None and live.goes_on
        now = (goes_on, *(_changed(run.path / name) for name in ("metrics.csv", LIVE, GALLERY)))
        if now != before:
            path = build_report([run], out)
            say(f"{path}: {_told(run, live, goes_on=goes_on)}")
            before = now
            if live is None and run.is_finished:
                return path
        time.sleep(seconds)


def _changed(path: Path) -> int:
    """Return when a file was changed; 0 if there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _told(run: Run, live: Live | None, *, goes_on: bool) -> str:
    if live is None:
        return "the run has ended" if run.is_finished else "nothing has been measured yet"
    at = f"step {live.done} of {live.steps}"
    return f"{live.phase}, {at}" if goes_on else f"interrupted at {at}; gemel resume {run.path} continues it"
