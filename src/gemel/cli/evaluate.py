"""gemel evaluate."""

import typer

from gemel.cli.arguments import asks_help
from gemel.errors import UserError
from gemel.launcher import launched


def evaluate(context: typer.Context) -> None:
    """Judge a network by a protocol:  gemel evaluate RUN knn [IMAGES] [--test IMAGES]"""
    from gemel.settings.tree import layer_of_flags

    if asks_help(context.args):
        print(_help())
        return
    import gemel

    values = layer_of_flags(context.args, ["run", "protocol", "images"]).readable().values
    missing = [word for word in ("run", "protocol") if word not in values]
    if missing:
        raise UserError(f"{' and '.join(missing)} missing; gemel evaluate RUN PROTOCOL [IMAGES]")
    if "quiet" in values:
        raise UserError("--quiet is not an option of evaluate")
    result = gemel.evaluate(**values, quiet=False)
    if launched().rank != 0:
        return
    for name, value in result.metrics.items():
        print(f"{name:16} {value:.4f}")
    for name, value in result.settings.items():
        print(f"  {name}: {value}")


def _help() -> str:
    from gemel import evaluations
    from gemel.evaluations.networks import open_subject
    from gemel.settings.schema import describe, schema_of

    lines = [
        "Usage: gemel evaluate RUN PROTOCOL [IMAGES] [--test IMAGES] [--labels folders|FILE.csv] [OPTIONS]",
        "       gemel evaluate timm:NAME|torchvision:NAME PROTOCOL IMAGES --out FOLDER [--weights FILE] [OPTIONS]",
        "",
        *_options(describe(schema_of(open_subject)), "  "),
        "",
    ]
    for name in evaluations.available():
        protocol = evaluations.find(name)
        lines.append(f"  {name}: {' '.join((protocol.__doc__ or '').split('Args:')[0].split())}")
        lines += _options(describe(schema_of(protocol)), "    ")
    return "\n".join(lines)


def _options(rows: list[tuple[str, str, str, str]], indent: str) -> list[str]:
    return [
        f"{indent}--{key.replace('_', '-'):20} {meaning}{f' [{default}]' if default else ''}"
        for key, _, default, meaning in rows
    ]
