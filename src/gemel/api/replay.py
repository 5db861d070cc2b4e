"""`gemel.replay`: a step of a run, taken again to be looked at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from gemel import methods
from gemel.api.pretrain import alone, freezer, speaker
from gemel.api.runs import load
from gemel.data.sources import Source
from gemel.errors import UserError
from gemel.launcher import launched
from gemel.runs.files import write_text
from gemel.runs.output_paths import check_suffix
from gemel.runs.run import Run
from gemel.settings.schema import checked

if TYPE_CHECKING:
    from gemel.reports.replayed import Replay


@checked
def replay(
    run: Run | str | Path,
    *,
    step: Annotated[int, Field(ge=1)],
    exact: bool = True,
    out: str | Path | None = None,
    method: str | Path | None = None,
    quiet: bool = True,
) -> "Replay":
    """Take a step of a run again from its draws: its batch, its loss terms, outputs of modules and gradients.

    A run's draws are functions of its seed and the step, so the step is the same to the last bit, on the same machine
    and with as many processes: one that became NaN becomes NaN again. Nothing of the run is changed.

    Args:
        run: a run or its folder; also one that diverged.
        step: of all stages, counted from 1 as in metrics.csv.
        exact: take the run's steps from the nearest checkpoint before it, or from its start, to this one; else take
            this step alone, on the newest checkpoint's weights.
        out: F.html, a page with the batch's views.
        method: the Python file of the run's own method, which is run only if it is named here.
        quiet: print nothing.

    Raises:
        UserError: the run has no such step, its images are not there, or another process trains it.
    """
    run = load(run)
    _check(run)
    if out is not None:
        check_suffix(Path(out), ".html")
    if method is not None:
        methods.allow(method, run.method_name)
    from gemel.engine.caller import preserved
    from gemel.request.resolve import continued
    from gemel.training.replay import replay as take
    from gemel.training.replay import start_of

    say = speaker(quiet)
    processes = run.environment.get("processes", 1)
    if processes != 1:
        say(f"trained by {processes} processes, taken again by one: sums over other parts round otherwise")
    with preserved(), alone(run):
        state = start_of(run, step, exact=exact)
        prepared = continued(run, freezer(quiet), first_weights=state is None)
        found = take(prepared, run, step, state, exact=exact, say=None if quiet else say)
        if out is not None:
            _write_page(run, found, prepared.source, Path(out))
    return found


def _check(run: Run) -> None:
    """Check that the run has steps, and that one process asks for one."""
    if launched().processes > 1:
        raise UserError("start gemel replay as one process; the batch is the same")
    imported = run.environment.get("imported")
    if imported is not None:
        raise UserError(f"{run.path} was imported from {imported}: it has no steps that could be taken again")


def _write_page(run: Run, found: "Replay", source: Source, out: Path) -> None:
    from gemel.data.thumbnail import thumbnail
    from gemel.evaluations.gallery import picture
    from gemel.reports.replay_page import replay_page

    views = [view for view in found.batch.views if view.ndim == 4]
    shown = [view.permute(0, 2, 3, 1).contiguous().numpy() for view in views]
    pictures = [[thumbnail(view[row]).uri for view in shown] for row in range(len(found.paths))]
    if not views:  # heads learn from vectors: the images that they are of
        pictures = [[picture(source, index)] for index in found.batch.index.tolist()]
    write_text(out, replay_page(str(run.path), found, pictures))
