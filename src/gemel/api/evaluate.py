"""`gemel.evaluate`: what a network is worth, by a named protocol."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SkipValidation

from gemel.data.sources import Images, Labels
from gemel.errors import UserError
from gemel.runs.run import Run
from gemel.settings.schema import mistakes_in, schema_of, typed

if TYPE_CHECKING:
    from gemel.evaluations.base import Result


def evaluate(
    run: Run | str | Path,
    protocol: str,
    images: Images | None = None,
    *,
    test: SkipValidation[Images | None] = None,
    labels: SkipValidation[Labels | None] = None,
    quiet: bool = True,
    **options: Any,
) -> "Result":
    """Evaluate a network by a named protocol; the result is kept in RUN/evaluations, or below `out`.

    Args:
        run: a run or its folder; `timm:NAME` or `torchvision:NAME`.
        protocol: knn, cluster, ...
        images: as for pretrain, or paths, or uint8 arrays (N, H, W) or (N, H, W, 3); left out: those of the run.
        test: test images; left out: the protocol's own rule holds.
        labels: folders or FILE.csv; left out: the dataset's own, or the run's.
        quiet: print nothing.
        **options: the protocol's own; network="random" or "pixels" evaluates, for comparison, the run's backbone with
            fresh weights (of network_seed) or the images themselves; out, weights and size are for timm's and
            torchvision's networks.

    Raises:
        UserError: unknown protocol or option, no labels, or weights that do not fit.
    """
    fields = {name: one for function in options_of(protocol) for name, one in schema_of(function).model_fields.items()}
    wrong = mistakes_in({**options, "quiet": quiet}, fields, str, title=protocol)
    if wrong:
        raise UserError(*wrong)
    from gemel.engine.caller import preserved
    from gemel.evaluations.run_protocol import evaluate

    with preserved():
        return evaluate(run, protocol, images, test=test, labels=labels, quiet=quiet, options=typed(options, fields))


def options_of(protocol: str | None = None) -> list[Callable[..., Any]]:
    """Return the functions whose keyword-only arguments are the options of an evaluation, or of all without a protocol.

    Raises:
        UserError: there is no such protocol.
    """
    from gemel import evaluations
    from gemel.evaluations.networks import open_subject

    return [evaluate, open_subject, *([] if protocol is None else [evaluations.find(protocol)])]
