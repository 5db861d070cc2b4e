"""gemel pretrain and gemel resume."""

from typing import Any

import typer

from gemel.cli.arguments import asks_help, option_lines
from gemel.launcher import is_first


def pretrain(context: typer.Context) -> None:
    """Learn an encoder, and classes, from images without labels."""
    if asks_help(context.args):
        print(_help())
        return
    from gemel.api import pretrain as pretraining
    from gemel.settings.tree import Launch, Settings, is_yes, layer_of_flags, render

    layer = layer_of_flags(context.args, ["images"], Settings, Launch)
    if not is_yes(layer.values.get("dry_run")):
        pretraining.pretrain(layer, quiet=False)
        return
    prepared = pretraining.ready(layer, say=pretraining.speaker(False))
    if is_first() and prepared.claim is not None:
        print(f"run folder: {prepared.claim.path} (not made)\n\n{render(prepared.settings.model_dump())}", end="")


def resume(run: str, **options: Any) -> None:
    """Continue an interrupted run to the same end, bit for bit.

    Args:
        run: folder of a run
    """
    import gemel

    gemel.resume(run, **options)


def _help() -> str:
    from gemel.settings.schema import describe
    from gemel.settings.tree import Launch, Settings

    lines = ["Usage: gemel pretrain [IMAGES] [OPTIONS]", "", "Learn an encoder from images without labels.", ""]
    lines += [f"  IMAGES{'':16} {Settings.model_fields['images'].description}"]
    lines += option_lines([row for row in (*describe(Settings), *describe(Launch)) if row[0] != "images"])
    return "\n".join([*lines, "", "gemel settings METHOD lists every dotted option, --optimizer.lr and the like."])
