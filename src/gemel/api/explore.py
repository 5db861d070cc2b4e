"""`gemel.explore`: the explorer in the browser, from a run's folder; edits go back into the run."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import NonNegativeInt

from gemel.api.runs import load
from gemel.errors import UserError
from gemel.runs.run import Run
from gemel.settings.schema import checked

if TYPE_CHECKING:
    from gemel.explorer.server import ExplorerServer


@checked
def explore(run: Run | str | Path, *, port: NonNegativeInt = 0, quiet: bool = False) -> None:
    """Serve a run's map and classes to this machine's browser until it is interrupted; edits go into the run at once.

    Args:
        run: a run or its folder.
        port: of 127.0.0.1; 0: a free one.
        quiet: print nothing.

    Raises:
        UserError: the run has no map yet, its images can't be found, or the port can't be used.
    """
    with serving(load(run), port) as server:
        if not quiet:
            print(f"{server.address}\nopen it in a browser on this machine; Ctrl-C ends it", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            if not quiet:
                print("stopped; the edits are in the run", flush=True)


@contextmanager
def serving(run: Run, port: int = 0) -> "Generator[ExplorerServer]":
    """With a server of a run that is ready to answer; explorer.html is brought up to date in the end.

    Raises:
        UserError: as `explore`.
    """
    table = run.map()
    if table is None:
        raise UserError(f"{run.path} has no map of its images yet; gemel resume {run.path} brings the run to its end")
    from gemel.data.sources import open_source
    from gemel.data.survey import decoded
    from gemel.explorer.content import Content
    from gemel.explorer.server import ExplorerServer

    source = open_source(run.setting("images"), labels=run.setting("labels"))
    content = Content(run, decoded(source, run.settings), table)
    with ExplorerServer(content, port) as server:
        try:
            yield server
        finally:
            content.close()
