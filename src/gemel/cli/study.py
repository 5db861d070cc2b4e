"""gemel study."""

from collections.abc import Iterator, Sequence

import typer

from gemel.cli.arguments import asks_help, option_lines
from gemel.errors import UserError


def study(context: typer.Context) -> None:
    """Make a named set of runs and its table."""
    from gemel.settings.tree import Launch, Settings, layer_of_flags
    from gemel.studies.plan import StudyLaunch

    if asks_help(context.args):
        print(_help())
        return
    layer = layer_of_flags(list(_without_set(context.args)), ["name"], Settings, Launch, StudyLaunch)
    from gemel.api.several_runs import study_of_layer
    from gemel.reports.tables import show

    outcome = study_of_layer(layer, quiet=False)
    if outcome.finished:
        show(outcome.table())
        for question, word, reason in outcome.verdicts:
            print(f"{word}: {question} ({reason})")


def _without_set(arguments: Sequence[str]) -> Iterator[str]:
    """Write `--set key=value` as `--key=value`, for those who build commands by a program."""
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if word != "--set":
            yield word
            continue
        pair = waiting.pop(0) if waiting else ""
        if "=" not in pair:
            raise UserError(f"--set {pair} names no value; give --set KEY=VALUE")
        yield f"--{pair}"


def _help() -> str:
    from gemel import studies
    from gemel.settings.schema import describe
    from gemel.studies.plan import StudyLaunch

    lines = [
        "Usage: gemel study NAME [OPTIONS] [--section.key VALUE ...]",
        "",
        "For example: gemel study epochs --seeds 3",
        "",
    ]
    for name in studies.available():
        found = studies.find(name)
        runs = len(found.small.variations) * found.seeds
        lines += [f"  {name:20} {found.question} ({runs} runs)"]
    lines += ["", *option_lines(describe(StudyLaunch)), ""]
    lines += ["Any setting of gemel pretrain holds for all runs: --images ./photos --optimizer.lr 0.001."]
    return "\n".join([*lines, "An interrupted study continues where it was: finished runs are left as they are."])
