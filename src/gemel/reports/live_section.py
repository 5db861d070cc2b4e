"""The banner of a report on a run that has not ended: how far it is, or why it stopped."""

import time
from typing import NamedTuple

from gemel.reports.formatting import percent
from gemel.runs.live import Live, read_live
from gemel.runs.run import Run

REFRESH = 10
"""seconds after which a page of a run that goes on loads itself again"""


class LiveSection(NamedTuple):
    """What the banner says."""

    level: str
    """good or warning"""
    title: str
    lines: tuple[str, ...]
    command: str
    """that continues the run; empty while it goes on"""
    refresh: int
    """seconds; 0: the page stays as it is"""
    has_pictures: bool
    """of a probe"""


def live_section(run: Run) -> LiveSection | None:
    """Return the banner; None of a run that has ended.

    Raises:
        UserError: live.json is damaged.
    """
    live = read_live(run)
    if live is None:
        return None
    pictures = bool(live.gallery.get("classes"))
    written = f"Written {time.strftime('%H:%M:%S', time.localtime(live.updated))}"
    if live.goes_on:
        title = "Training" if live.phase == "training" else "Training has ended"
        about = _how_far(live) if live.phase == "training" else "Classes, scores and pictures are being made."
        lines = (about, f"{written}; this page renews itself.")
        return LiveSection("good", title, lines, "", REFRESH, pictures)
    why = live.why or "its process has ended"
    at = _how_far(live) if live.phase == "training" or live.done < live.steps else "The training itself has ended."
    lines = (f"{at}", f"It stopped: {why}.", f"{written}.")
    return LiveSection("warning", "Interrupted", lines, f"gemel resume {run.path}", 0, pictures)


def _how_far(live: Live) -> str:
    stage = f"{live.stage}: step" if live.stage else "Step"
    told = f"{stage} {live.done:,} of {live.steps:,} ({percent(live.done / max(1, live.steps))})"
    return f"{told}, about {duration(live.left)} left." if live.left is not None and live.goes_on else f"{told}."


def duration(seconds: float) -> str:
    """Return a duration as people say it.

    >>> duration(42), duration(200), duration(9000)
    ('42 s', '3 min', '2 h 30 min')
    """
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
