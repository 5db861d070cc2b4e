"""All commands, in the order of `gemel --help`."""

import typer

import gemel
from gemel.cli.arguments import Functions, add, add_raw, ends_in, help_of, is_run
from gemel.cli.check import check
from gemel.cli.classify import classify
from gemel.cli.compare import compare, report
from gemel.cli.doctor import doctor
from gemel.cli.embed import embed
from gemel.cli.evaluate import evaluate, explain, is_network, options_of
from gemel.cli.exchange import export, import_checkpoint
from gemel.cli.explore import explore
from gemel.cli.methods import methods, recipe, settings
from gemel.cli.pretrain import pretrain, resume
from gemel.cli.replay import replay
from gemel.cli.study import study

app = typer.Typer(
    name="gemel",
    help="Vision encoders from images without labels, and the classes that it finds in them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _front(name: str) -> Functions:
    """Return the options of a function of the front door, which is imported when the command runs."""
    return lambda words: [getattr(gemel, name)]


def _formats() -> str:
    from gemel.exchange import available

    return f"{help_of(export, 'export')}\n\nFormats: {', '.join(available())}."


def _is_format(text: str) -> None:
    from gemel.exchange import find

    find(text)


def _is_method(text: str) -> None:
    from gemel.methods import find

    find(text, named=True)


RUN = {"run": is_run}

add_raw(app, pretrain, "pretrain", "Learn an encoder, and classes, from images without labels.")
add(app, resume, checks=RUN, takes=_front("resume"))
add(app, evaluate, checks={"run": is_network}, takes=options_of, explain=explain)
add(app, embed, checks=RUN | {"out": ends_in(".parquet", ".npz", ".csv")}, takes=_front("embed"))
add(app, classify, checks=RUN | {"out": ends_in(".parquet", ".csv")}, takes=_front("classify"))
add(app, replay, checks=RUN | {"out": ends_in(".html")}, takes=_front("replay"))
add(app, report)
add(app, explore, checks=RUN)
add(app, import_checkpoint, "import", checks={"method": _is_method}, takes=_front("import_official"))
add(app, export, checks=RUN | {"format": _is_format}, explain=_formats)
add(app, compare, checks={"out": ends_in(".md", ".html", ".csv")})
add(app, check, checks={"out": ends_in(".csv", ".parquet"), "report": ends_in(".html", option="--report")})
add(app, doctor)
add_raw(app, study, "study", "Make a named set of runs and its table.")
add(app, methods)
add(app, settings, checks={"method": _is_method})
add(app, recipe)
