"""gemel study."""

from collections.abc import Iterator, Sequence

import typer

from gemel.cli.arguments import asks_help
from gemel.errors import UserError


def study(context: typer.Context) -> None:
    """Make a named set of runs and its table:  gemel study epochs --seeds 3"""
    from gemel.settings.tree import Launch, Settings, layer_of_flags
    from gemel.studies.plan import StudyLaunch

    if asks_help(context.args):
        print(_help())
        return
    words = list(_without_set(context.args))
    layer = layer_of_flags(words, ["name"], Settings, Launch, StudyLaunch).readable()
    if "name" not in layer.values:
        raise UserError("NAME missing; gemel study NAME, and gemel study --help lists them")
    from gemel.api.several_runs import study_of_layer
    from gemel.reports.tables import show

    outcome = study_of_layer(layer, quiet=False)
    if outcome.finished:
        show(outcome.table())
        for question, word, reason in outcome.verdicts:
            print(f"{word}: {question} ({reason})")


def _without_set(arguments: Sequence[str]) -> Iterator[str]:
    """`--set key=value` is `--key value`, for those who build commands by a program."""
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

    lines = ["Usage: gemel study NAME [OPTIONS] [--section.key VALUE ...]", ""]
    for name in studies.available():
        found = studies.find(name)
        runs = len(found.small.variations) * found.seeds
        lines += [f"  {name:20} {found.question} ({runs} runs)"]
    lines += [""]
    for key, _, default, meaning in describe(StudyLaunch):
        shown = f" [{default}]" if default and default != "False" else ""
        lines.append(f"  --{key.replace('_', '-'):20} {meaning}{shown}")
    lines += ["", "Any setting of gemel pretrain holds for all runs: --images ./photos --optimizer.lr 0.001."]
    return "\n".join([*lines, "A study that was interrupted goes on where it was: finished runs are left as they are."])
