"""gemel import and gemel export."""

from pathlib import Path
from typing import Annotated

import typer

from gemel.cli.arguments import RunFolder
from gemel.exchange import available


def import_checkpoint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="checkpoint of the official code, or a backbone's")],
    out: Annotated[Path, typer.Option(help="folder of the run")],
    method: Annotated[str, typer.Option(help="whose backbone it is, where the file has nothing else")] = "twist",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the run that stands there")] = False,
) -> None:
    """Make a run of an official TWIST or Barlow Twins checkpoint."""
    import gemel

    run = gemel.import_official(file, out, method=method, overwrite=overwrite)
    facts = run.backbone_facts
    heads = "with its heads" if run.checkpoint_path.is_file() else "the backbone alone"
    print(f"{run.path}: {run.settings['method']['name']}, {facts['name']}, {facts['width']} features, {heads}")


def export(
    run: RunFolder,
    format: Annotated[str, typer.Argument(metavar="FORMAT", help=", ".join(available()))],
    out: Annotated[Path | None, typer.Option(help="the file; else one in the run's folder")] = None,
) -> None:
    """Write a run's network in another format."""
    import gemel

    print(gemel.export(run, format, out))
