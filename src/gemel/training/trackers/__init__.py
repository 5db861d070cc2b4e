"""Trackers: where the rows of metrics.csv go too, by name; this folder is the list, one file a tracker."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from inspect import isabstract
from pkgutil import iter_modules

from gemel.engine.progress import Say
from gemel.errors import Interrupted, UserError, brief
from gemel.runs.run import Run
from gemel.training.trackers.base import Status, Tracker

CSV = "csv"
"""the word for no tracker: metrics.csv is always written"""


def available() -> list[str]:
    """Return the names of the trackers."""
    return sorted(one.name for one in iter_modules(__path__) if one.name != "base")


def find(name: str) -> type[Tracker]:
    """Return a tracker's class."""
    module = import_module(f"gemel.training.trackers.{name}")
    classes = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, Tracker)]
    (found,) = [one for one in classes if not isabstract(one)]
    return found


def missing(names: Sequence[str]) -> list[str]:
    """Return what is wrong with the trackers of `--log`: those whose package is not installed."""
    known = [name for name in dict.fromkeys(names) if name in available()]
    lacking = [name for name in known if find_spec(find(name).package) is None]
    return [f"--log {name} needs a package that is not installed: pip install 'gemel[{name}]'" for name in lacking]


class Trackers:
    """The trackers of a run. One that fails during the training is left out from then on: the run goes on.

    Args:
        trackers: opened.
        say: is told what failed.
    """

    def __init__(self, trackers: Mapping[str, Tracker], say: Say) -> None:
        self._trackers, self._say = dict(trackers), say

    def log(self, row: Mapping[str, float | int | str], step: int) -> None:
        """Send a row's numbers."""
        numbers = {name: value for name, value in row.items() if not isinstance(value, str)}
        for name, tracker in list(self._trackers.items()):
            try:
                tracker.log(numbers, step)
            except tracker.failures as error:
                self._drop(name, error)

    def close(self, status: Status) -> None:
        """Send what is left, and how the run ended."""
        for name, tracker in list(self._trackers.items()):
            try:
                tracker.close(status)
            except tracker.failures as error:
                self._drop(name, error)

    def _drop(self, name: str, error: Exception) -> None:
        del self._trackers[name]
        self._say(f"warning: {name} takes no more rows ({brief(str(error))}); metrics.csv has them all")


@contextmanager
def opened(names: Sequence[str], run: Run, step: int, say: Say) -> Generator[Trackers]:
    """Open the trackers of a run; they are told how it ended.

    Args:
        names: as in `--log`.
        run: what is tracked.
        step: steps done before, by a run that is continued.
        say: is told where the rows go.

    Raises:
        UserError: a tracker's package is missing, or it does not let us in.
    """
    lacking = missing(names)
    if lacking:
        raise UserError(*lacking)
    trackers: dict[str, Tracker] = {}
    for name in dict.fromkeys(names):
        if name != CSV:
            trackers[name] = _open(name, run, step)
            say(f"{name}: {trackers[name].where}")
    group = Trackers(trackers, say)
    status: Status = "failed"
    try:
        yield group
        status = "finished"
    except (Interrupted, KeyboardInterrupt):
        status = "interrupted"
        raise
    finally:
        group.close(status)


def _open(name: str, run: Run, step: int) -> Tracker:
    kind = find(name)
    try:
        return kind(run, step)
    except kind.failures as error:
        raise UserError(f"--log {name} can't be opened: {brief(str(error))}; set it up, or leave it out") from error
