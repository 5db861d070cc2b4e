"""The main job, from the user's words to a report: what `gemel.pretrain` and `gemel.resume` do."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from gemel.errors import UserError
from gemel.launcher import launched
from gemel.runs.folder import held
from gemel.runs.run import Run
from gemel.settings.run_settings import ON_FEATURES

if TYPE_CHECKING:
    from gemel.engine.progress import Say
    from gemel.request.resolve import Freeze
    from gemel.request.validate import Asked
    from gemel.training.prepared import Prepared


def pretrain(*layers: Any, quiet: bool) -> Run:
    """Check, choose, train, close and report; several processes do it as one.

    Raises:
        UserError: with every mistake in what was given; nothing is written then.
    """
    asked = _asked(layers)
    from gemel.engine.caller import preserved  # brings torch: after the mistakes that need none
    from gemel.engine.processes import by_the_first
    from gemel.request.resolve import start

    with preserved():
        prepared = _ready(asked, speaker(quiet), quiet=quiet)
        run = Run(by_the_first(lambda: start(prepared)))
        with alone(run):
            return _complete(prepared, run, quiet=quiet)


def ready(*layers: Any, say: "Say") -> "Prepared":
    """Return a request with everything checked, chosen and measured, nothing written; several processes agree on it.

    Args:
        layers: of settings, the first one lowest.
        say: is told each choice with its reason, and the estimate.

    Raises:
        UserError: with every mistake in what was given.
    """
    asked = _asked(layers)
    from gemel.engine.caller import preserved

    with preserved():
        return _ready(asked, say, quiet=False)


def _asked(layers: Sequence[Any]) -> "Asked | UserError | None":
    """What the user asked for, or what is wrong with it; the first process looks while the others wait."""
    from gemel.request.validate import asked_for

    if launched().rank != 0:
        return None
    try:
        return asked_for(layers)
    except UserError as error:
        if launched().processes == 1:
            raise
        return error


def _ready(asked: "Asked | UserError | None", say: "Say", *, quiet: bool) -> "Prepared":
    from gemel.engine.processes import first_says, joined, mistakes_of_all
    from gemel.request.estimate import estimate
    from gemel.request.resolve import follow, on_vectors, prepare

    prepared, mistakes = None, ()
    if isinstance(asked, UserError):
        mistakes = asked.mistakes
    elif asked is not None:
        try:
            prepared = prepare(asked, say, freezer(quiet))
        except UserError as error:
            if launched().processes == 1:
                raise
            mistakes = error.mistakes
    with joined():
        chosen = None
        if prepared is not None and launched().processes > 1:
            chosen = prepared.settings.model_dump(), prepared.identity, dict(prepared.left_out)
        mistakes, chosen = first_says((mistakes, chosen))
        if prepared is None and chosen is not None:
            try:
                prepared = follow(*chosen)
            except UserError as error:
                mistakes = error.mistakes
        mistakes = mistakes_of_all(mistakes)
        if mistakes or prepared is None:
            raise UserError(*mistakes)
        if prepared.settings.train in ON_FEATURES and launched().processes > 1:
            claim = prepared.claim
            prepared = on_vectors(
                prepared.settings, prepared.source, prepared.left_out, speaker(quiet=True), freezer(quiet=True)
            )
            prepared.claim = claim
        estimate(prepared, say)  # what a method refuses here it refuses on every process
    return prepared


def resume(run: Run, *, quiet: bool) -> Run:
    """Continue to the same end; a run that has ended is left as it is.

    Raises:
        UserError: it was imported, another process trains it, or its files are damaged.
    """
    imported = run.environment.get("imported")  # as the import writes it; None for a run that was trained
    if imported is not None:
        name = run.backbone_facts["name"]
        raise UserError(
            f"{run.path} was imported from {imported}; only a run that gemel pretrain began can go on. Start "
            f"from its backbone: gemel pretrain IMAGES --weights {run.path} --backbone {name}"
        )
    say = speaker(quiet)
    if run.is_trained and run.is_finished:
        say(f"{run.path} has ended already; its report is {run.report_path}")
        return run
    from gemel.engine.caller import preserved
    from gemel.engine.processes import joined
    from gemel.request.resolve import continued

    with preserved(), joined(), alone(run):
        return _complete(continued(run, freezer(quiet)), run, quiet=quiet)


def freezer(quiet: bool) -> "Freeze":
    """What gives the features of a frozen network, and shows how far it is unless `quiet`."""
    from gemel.evaluations.features import printed
    from gemel.evaluations.frozen_features import frozen_features

    return lambda network, facts, source: frozen_features(network, facts, source, printed(quiet))


@contextmanager
def alone(run: Run) -> Generator[None]:
    """With the run's folder as these processes' own."""
    from gemel.engine.processes import by_the_first

    with ExitStack() as stack:
        by_the_first(lambda: stack.enter_context(held(run)))
        yield


def speaker(quiet: bool) -> "Say":
    """Prints a line for the user; the first of several processes speaks for all."""
    return (lambda text: None) if quiet or launched().rank != 0 else lambda text: print(text, flush=True)


def _complete(prepared: "Prepared", run: Run, *, quiet: bool) -> Run:
    """Train to the end, then the closing pass and the report."""
    from gemel.training.train import train

    say, first = speaker(quiet), launched().rank == 0
    if not run.is_trained:
        train(prepared, run, say, quiet=quiet)
    from gemel.evaluations.after_training import close  # brings scikit-learn, which no step needs
    from gemel.evaluations.features import printed
    from gemel.metrics.health import health
    from gemel.reports import build_report
    from gemel.runs.live import remove_live
    from gemel.training.live_report import report_closing

    if first:
        report_closing(run)
    close(run, prepared.source, printed(quiet))
    if not first:
        return run
    remove_live(run)
    path = build_report([run], None)
    for finding in health(run.metrics().to_pydict(), prepared.method.advice):
        say(f"health: {finding.message}{f'; to try: {finding.advice}' if finding.advice else ''}")
    for result in run.evaluations():
        say(f"{result['protocol']}: " + ", ".join(f"{name} {value:.3f}" for name, value in result["metrics"].items()))
    say(f"run: {run.path}   report: {path}")
    return run
