"""How far a run is while it goes on, in RUN/evaluations/live.json: for the report, which another process may write."""

import json
import os
import socket
import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from gemel.errors import UserError
from gemel.runs.files import read_mapping_of_json, write_text
from gemel.runs.run import LIVE, Run

Phase = Literal["training", "closing", "stopped"]


class Live(BaseModel):
    """The state of a run that has not ended."""

    model_config = ConfigDict(extra="forbid")

    phase: Phase
    pid: int
    host: str
    updated: float
    """seconds since 1970"""
    every: float
    """seconds after which it is updated again, at the latest"""
    stage: str = ""
    """of several; empty where there is one"""
    done: int = 0
    steps: int = 0
    """of the stage"""
    left: float | None = None
    """seconds of the stage, as estimated; None: unknown"""
    why: str = ""
    """it stopped"""
    gallery: dict[str, Any] = {}
    """the surest images of each class among those that the newest probe looked at, as in gallery.json"""

    @property
    def goes_on(self) -> bool:
        """Whether a process works on the run: the one that wrote this; on another machine, whether it still writes."""
        if self.phase == "stopped":
            return False
        if self.host == socket.gethostname() and os.name == "posix":
            return _is_alive(self.pid)
        return time.time() - self.updated < 3 * max(60.0, self.every)


def write_live(run: Run, phase: Phase, **facts: Any) -> Live:
    """Write how far a run is, by this process and now."""
    live = Live(phase=phase, pid=os.getpid(), host=socket.gethostname(), updated=time.time(), **facts)
    write_text(run.path / LIVE, json.dumps(live.model_dump()))
    return live


def read_live(run: Run) -> Live | None:
    """Return how far a run is; None of a run that has ended, or has hardly begun.

    Raises:
        UserError: live.json is damaged.
    """
    found = read_mapping_of_json(run.path / LIVE)
    try:
        return None if found is None else Live.model_validate(found)
    except ValidationError as error:
        raise UserError(f"{run.path / LIVE} is damaged: {error.errors()[0]['msg']}; delete it") from error


def remove_live(run: Run) -> None:
    """Let the run count as ended."""
    (run.path / LIVE).unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's
        return True
    return True
