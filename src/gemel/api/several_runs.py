"""`gemel.report`, `gemel.compare` and `gemel.study`: pages and tables of several runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemel.api.runs import load
from gemel.errors import UserError, unknown
from gemel.runs.run import RUN_FILE, Run
from gemel.settings.schema import checked, convert
from gemel.settings.tree import Layer, common_mistakes, layer_of_call

if TYPE_CHECKING:
    from gemel.reports.compare import Comparison
    from gemel.studies.outcome import Outcome


def report(
    runs: Sequence[Run | str | Path], out: str | Path | None = None, *, watch: bool = False, quiet: bool = True
) -> Path:
    """Write one self-contained HTML page about one or several runs, and return the file.

    Args:
        runs: runs or their folders.
        out: the file; left out: report.html in the first run's folder.
        watch: write it again whenever the run, which must be one, changes, until the run has ended.
        quiet: print nothing.

    Raises:
        UserError: there is no run, several are to be watched, or the file can't be written.
    """
    from gemel.api.watch import watch as watch_run
    from gemel.reports import build_report

    loaded, path = _loaded(runs), None if out is None else Path(out)
    if not watch:
        return build_report(loaded, path)
    if len(loaded) != 1:
        raise UserError(f"--watch follows one run, and {len(loaded)} were given; start one command for each")
    return watch_run(loaded[0], path, (lambda text: None) if quiet else lambda text: print(text, flush=True))


@checked
def compare(runs: Sequence[Run | str | Path], *, published: bool = True) -> "Comparison":
    """Compare runs: seeds of the same settings grouped, and marked what is not comparable and why.

    Args:
        runs: runs or their folders.
        published: show beside them the published results of the same scores, by the same method or on the same data.

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
        name: the study's: epochs, ...
        seeds: runs of each variation; left out: the study's own number.
        full: the size of the papers instead of minutes.
        out: folder of the runs, the tables and the page; left out: runs/studies/NAME.
        tables: folder for NAME.md, NAME.csv and NAME.svg; left out: that of `out`.
        quiet: print nothing.
        **settings: of all runs, as for pretrain.

    Raises:
        UserError: with every mistake in what was given; nothing is written then.
    """
    launch = {"seeds": seeds, "full": full or None, "out": out, "tables": tables}
    return study_of_layer(layer_of_call({"name": name, **launch, **settings}), quiet=quiet)


def study_of_layer(layer: Layer, *, quiet: bool) -> "Outcome":
    """Run the study that a layer names: its own options apart from the settings of its runs.

    Raises:
        UserError: with every mistake in the layer.
    """
    from gemel import methods, studies
    from gemel.launcher import launched
    from gemel.studies.plan import StudyLaunch

    if launched().processes > 1:
        raise UserError("start gemel study as one process; it starts its runs one by one")
    own = {key: value for key, value in layer.values.items() if key in StudyLaunch.model_fields}
    name = layer.values.get("name")
    overrides = layer._replace(values={key: value for key, value in layer.values.items() if key not in ("name", *own)})
    checked_values = layer._replace(values=overrides.values | own)
    mistakes = [*layer.mistakes, *common_mistakes(checked_values, methods.available(), StudyLaunch)]
    if name not in studies.available():
        known = studies.available()
        mistakes.append(unknown("study", name, known) if name else f"NAME missing; there are {', '.join(known)}")
    if mistakes:
        raise UserError(*mistakes)
    from gemel.studies.runner import run_study  # after the mistakes that need no run

    launch = StudyLaunch.model_validate(convert(StudyLaunch, own, ""))
    say = (lambda text: None) if quiet else (lambda text: print(text, flush=True))
    return run_study(str(name), studies.find(str(name)), launch, overrides, say, begin_or_resume)


def begin_or_resume(folder: Path, layers: Sequence[Layer]) -> None:
    """Bring the run of a folder to its end: resume it where it has begun, else start it with these settings."""
    from gemel.api.pretrain import pretrain, resume

    if (folder / RUN_FILE).is_file():
        resume(Run(folder), quiet=True)
    else:
        pretrain(*layers, quiet=True)


def _loaded(runs: Sequence[Run | str | Path] | Run | str | Path) -> list[Run]:
    """Return the runs; raises UserError with every folder that is none."""
    found: list[Run] = []
    mistakes: list[str] = []
    for run in [runs] if isinstance(runs, Run | str | Path) else runs:
        try:
            found.append(load(run))
        except UserError as error:
            mistakes += error.mistakes
    if mistakes:
        raise UserError(*mistakes)
    return found
