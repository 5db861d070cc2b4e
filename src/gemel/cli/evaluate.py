"""gemel evaluate."""

from collections.abc import Callable, Sequence
from typing import Any

from gemel.cli.arguments import is_run, option_lines
from gemel.launcher import launched


def evaluate(run: str, protocol: str, images: str | None = None, **options: Any) -> None:
    """Evaluate a network by a protocol: knn, linear, finetune, cluster, ...

    Args:
        run: folder of a run; timm:NAME or torchvision:NAME with --out FOLDER
        protocol: knn, linear, cluster, ...
        images: folder, text file of paths, or name of a dataset; left out: the run's own images
    """
    import gemel

    result = gemel.evaluate(run, protocol, images, quiet=False, **options)
    if launched().rank != 0:
        return
    for name, value in result.metrics.items():
        print(f"{name:16} {value:.4f}")
    for name, value in result.settings.items():
        print(f"  {name}: {value}")


def options_of(words: Sequence[str]) -> Sequence[Callable[..., Any]]:
    """Return the functions whose keyword-only arguments the flags are: some depend on the protocol among the words.

    Raises:
        UserError: there is no such protocol.
    """
    from gemel import evaluations
    from gemel.api.evaluate import options_of
    from gemel.settings.schema import schema_of
    from gemel.settings.tree import layer_of_flags

    # a value may be called as a protocol is, and a protocol's switch has none: the second bare word, else any
    if not words:
        return options_of()
    common = [schema_of(one) for one in options_of()]
    second = layer_of_flags(words, ["run", "protocol", "images"], *common).values.get("protocol")
    names = set(evaluations.available()) | {name.replace("-", "_") for name in evaluations.available()}
    return options_of(second if second in names else next((word for word in words if word in names), second))


def is_network(text: str) -> None:
    """Check that a run stands in a folder, unless a library's network is meant."""
    from gemel.evaluations.networks import is_library

    if not is_library(text):
        is_run(text)


def explain() -> str:
    """Return the help: every protocol and its options."""
    from gemel import evaluations
    from gemel.api.evaluate import options_of
    from gemel.settings.schema import describe, schema_of

    lines = [
        "Usage: gemel evaluate RUN PROTOCOL [IMAGES] [--test IMAGES] [--labels folders|FILE.csv] [OPTIONS]",
        "       gemel evaluate timm:NAME|torchvision:NAME PROTOCOL IMAGES --out FOLDER [--weights FILE] [OPTIONS]",
        "",
    ]
    rows = [row for one in options_of() for row in describe(schema_of(one)) if row[0] != "quiet"]
    lines += [*option_lines(rows), ""]
    for name in evaluations.available():
        protocol = evaluations.find(name)
        lines.append(f"  {name}: {' '.join((protocol.__doc__ or '').split('Args:')[0].split())}")
        lines += option_lines(describe(schema_of(protocol)), "    ")
    return "\n".join(lines)
