"""Trackio: the user's local database (TRACKIO_DIR), shown by `trackio show --project gemel`."""

from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO

from gemel.runs.run import Run
from gemel.training.trackers.base import PROJECT, Status, Tracker, flat, identity_of


class Trackio(Tracker):
    """A run of Trackio, on this machine."""

    package = "trackio"

    def __init__(self, run: Run, step: int) -> None:
        import trackio  # pyright: ignore[reportMissingImports]

        with redirect_stdout(StringIO()):  # several lines of its own
            self._run = trackio.init(
                PROJECT,
                name=f"{run.path.name}-{identity_of(run)}",  # a name is all that tells its runs apart
                config=flat(run.settings),
                resume="allow",
                embed=False,
            )
        self.where = f"trackio show --project {PROJECT} shows it"

    def log(self, row: Mapping[str, float | int], step: int) -> None:
        """Take the numbers of a row."""
        self._run.log({name: value for name, value in row.items() if name != "step"}, step)  # `step` is its own word

    def close(self, status: Status) -> None:
        """Write everything out; how the run ended has no place there."""
        with redirect_stdout(StringIO()):
            self._run.finish()
