"""`gemel.pretrain` and `gemel.resume`: a Python call becomes a layer of settings."""

from pathlib import Path
from typing import Any

from gemel import methods
from gemel.api import pretrain as pretraining
from gemel.api.runs import load
from gemel.errors import UserError
from gemel.runs.run import Run
from gemel.settings.schema import checked
from gemel.settings.tree import Launch, layer_of_call


def pretrain(
    images: str | Path | None = None,
    *,
    out: str | Path | None = None,
    config: str | Path | None = None,
    overwrite: bool = False,
    rescan: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Learn an encoder from images without labels; then classes, scores and a report.

    Args:
        images: a folder, a text file of paths, or the name of a dataset; left out: digits.
        out: folder of the run; left out: runs/METHOD-N, the next free number.
        config: a YAML file of settings; what is given here overrides it.
        overwrite: replace the run at `out`.
        rescan: list the folder anew.
        quiet: print nothing.
        **settings: as on the command line: method="twist", epochs=100, optimizer={"name": "adamw", "lr": 1e-3}, ...

    Raises:
        UserError: with every mistake in what was given; nothing is written then.
    """
    strange = [key for key in settings if key in Launch.model_fields]
    if strange:
        raise UserError(f"{', '.join(strange)}: for the command line, gemel pretrain --{strange[0].replace('_', '-')}")
    launch = {"out": out, "config": config, "overwrite": overwrite or None, "rescan": rescan or None}
    return pretraining.pretrain(layer_of_call({"images": images, **launch, **settings}), quiet=quiet)


@checked
def resume(run: Run | str | Path, *, method: str | Path | None = None, quiet: bool = False) -> Run:
    """Continue an interrupted run to the same end, bit for bit; a run that has ended is left as it is.

    Args:
        run: a run or its folder.
        method: the Python file of the run's own method, which is run only if it is named here.
        quiet: print nothing.

    Raises:
        UserError: it is not a run, or its files are damaged.
    """
    run = load(run)
    if method is not None:
        methods.allow(method, run.method_name)
    return pretraining.resume(run, quiet=quiet)
