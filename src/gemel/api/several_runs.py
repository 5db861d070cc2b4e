"""The front door's functions over several runs: report, compare, study."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemel.errors import UserError
from gemel.runs.run import Run

if TYPE_CHECKING:
    from gemel.reports.compare import Comparison
    from gemel.settings.tree import Layer
    from gemel.studies.outcome import Outcome


def report(runs: Sequence[Run | str | Path], out: str | Path | None = None) -> Path:
    """One self-contained HTML page of one or several runs.

    Args:
        runs: runs or their folders.
        out: the file; left out: report.html in the first run's folder.
    """
    from gemel.reports import build_report

    return build_report(_loaded(runs), None if out is None else Path(out))


def compare(runs: Sequence[Run | str | Path], *, published: bool = True) -> "Comparison":
    """Runs side by side: seeds of the same settings grouped, marked what does not compare and why.

    Args:
        runs: runs or their folders.
        published: set beside them the published results of the same scores, by the same method or on the same data.

    Returns:
        A comparison with .table(), .markdown(), .html() and .write("F.md" | "F.html" | "F.csv").

    Raises:
        UserError: there is no run.
    """
    from gemel.reports.compare import compare_runs

    return compare_runs(_loaded(runs), published=published)


def study(
    name: str,
    *,
    seeds: int | None = None,
    full: bool = False,
    out: str | Path | None = None,
    tables: str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> "Outcome":
    """Make the runs of a study that are missing, and its table, checks, plot and page.

    Args:
        name: of the study: epochs, ...
        seeds: runs of each variation; left out: the study's own number.
        full: the size of the papers instead of minutes.
        out: folder of the runs, the tables and the page; left out: runs/studies/NAME.
        tables: folder for NAME.md, NAME.csv and NAME.svg; left out: that of `out`.
        quiet: print nothing.
        **settings: of all runs, as for pretrain.

    Raises:
        UserError: with every mistake in what was given; nothing is written then.
    """
    from gemel.settings.tree import layer_of_call

    launch = {"seeds": seeds, "full": full or None, "out": out, "tables": tables}
    return study_of_layer(layer_of_call({"name": name, **launch, **settings}), quiet=quiet)


def study_of_layer(layer: "Layer", *, quiet: bool) -> "Outcome":
    """The study that a layer of words names: its own options apart from the settings of its runs."""
    from gemel import studies
    from gemel.launcher import launched
    from gemel.settings.schema import convert, mistakes_in
    from gemel.studies.plan import StudyLaunch

    if launched().processes > 1:
        raise UserError("start gemel study as one process; it starts its runs one by one")
    found = studies.find(str(layer.values["name"]))
    words = {key: value for key, value in layer.values.items() if key in StudyLaunch.model_fields}
    mistakes = mistakes_in(words, StudyLaunch.model_fields, layer.spell)
    if mistakes:
        raise UserError(*mistakes)
    launch = StudyLaunch.model_validate(convert(StudyLaunch, words, ""))
    settings = {key: value for key, value in layer.values.items() if key not in ("name", *words)}
    from gemel.studies.runner import run_study  # after the mistakes that need no run

    say = (lambda text: None) if quiet else (lambda text: print(text, flush=True))
    return run_study(str(layer.values["name"]), found, launch, layer._replace(values=settings), say)


def _loaded(runs: Sequence[Run | str | Path] | Run | str | Path) -> list[Run]:
    if isinstance(runs, Run | str | Path):
        runs = [runs]
    return [run if isinstance(run, Run) else Run(run) for run in runs]
