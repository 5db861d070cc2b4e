"""The command line: read flags, call one library function, print its answer."""

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from gemel.cli.arguments import RAW, RunFolder
from gemel.cli.arguments import asks_help as _asks_help
from gemel.cli.classify import classify
from gemel.cli.compare import compare
from gemel.cli.embed import embed
from gemel.cli.evaluate import evaluate
from gemel.cli.exchange import export, import_checkpoint
from gemel.cli.study import study
from gemel.errors import Diverged, Interrupted, UserError, brief, is_out_of_memory, system_words
from gemel.launcher import REQUEUE, is_first, requeue

app = typer.Typer(
    name="gemel",
    help="Vision encoders from images without labels, and the classes that it finds in them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

INTERRUPTED = 130
"""the exit code"""

SHOWN = 50
"""mistakes that are printed one by one"""

UsageError: Any = typer.BadParameter.__bases__[0]
"""of click, which Typer either depends on or carries with it"""


@app.command(context_settings=RAW)
def pretrain(context: typer.Context) -> None:
    """Learn an encoder, and classes, from images without labels:  gemel pretrain ./photos"""
    if _asks_help(context.args):
        print(_pretrain_help())
        return
    from gemel.api import pretrain as pretraining
    from gemel.settings.tree import is_yes
    from gemel.settings.tree import Launch, Settings, layer_of_flags

    layer = layer_of_flags(context.args, ["images"], Settings, Launch)
    if is_yes(layer.values.get("dry_run")):
        _dry_run(layer)
    else:
        pretraining.pretrain(layer, quiet=False)


@app.command()
def resume(run: RunFolder) -> None:
    """Continue an interrupted run to the same end, bit for bit."""
    import gemel

    gemel.resume(run)


app.command(context_settings=RAW)(evaluate)


app.command()(embed)
app.command()(classify)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of runs")],
    out: Annotated[Path | None, typer.Option(help="the file; else RUN/report.html")] = None,
) -> None:
    """Write one self-contained HTML page of one or several runs."""
    import gemel

    print(gemel.report(list(runs), out))


app.command("import")(import_checkpoint)
app.command()(export)
app.command()(compare)
app.command(context_settings=RAW)(study)


@app.command()
def methods() -> None:
    """List the methods and their recipes."""
    from gemel import methods as room

    for name in room.available():
        method = room.find(name)
        print(f"{name}: {(method.__doc__ or '').splitlines()[0]}")
        for recipe, values in method.recipes.items():
            print(f"  {name}/{recipe}: {values.source}")


@app.command()
def settings(method: Annotated[str, typer.Argument(metavar="METHOD")]) -> None:
    """List every setting of a method: key, range, default, meaning."""
    from gemel import methods as room
    from gemel.settings.recipes import OPTIMIZERS, VIEWS
    from gemel.settings.schema import describe, schema_of
    from gemel.settings.tree import Settings

    tables = {"gemel": describe(Settings), f"the method {method}": describe(schema_of(room.find(method)), "method.")}
    for section, schemas in (("views", VIEWS), ("optimizer", OPTIMIZERS)):
        for name, schema in schemas.items():
            tables[f"--{section} {name}"] = describe(schema, f"{section}.")
    for title, rows in tables.items():
        print(f"\n{title}")
        for key, kind, default, meaning in rows:
            print(f"  --{key if '.' in key else key.replace('_', '-'):28} {kind:34} {default:24} {meaning}")


@app.command()
def recipe(method: Annotated[str, typer.Argument(metavar="METHOD[/RECIPE]")]) -> None:
    """Print a recipe as YAML:  gemel recipe barlow_twins > mine.yaml"""
    from gemel import methods as room
    from gemel.settings.recipes import split_name
    from gemel.settings.tree import render

    variant, found = room.find_recipe(method)
    name = split_name(method)[0]
    values = found.model_dump(exclude={"source", "images", "method"})
    options = dict(found.method)
    values = {"method": {"name": name, "recipe": variant, **options}, **values}
    print(f"# {name}/{variant}: {found.source}\n# gemel pretrain IMAGES --config THIS_FILE\n{render(values)}", end="")


def main(arguments: list[str] | None = None) -> None:
    """Run a command; 0 done, 2 the user's words or files are at fault, 130 interrupted, 1 anything else."""
    words = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a path that is not text, or a terminal that has no letter α
            stream.reconfigure(errors="backslashreplace")
    if threading.current_thread() is threading.main_thread():  # only there may handlers be set
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        if "SLURM_JOB_ID" in os.environ:
            signal.signal(REQUEUE, _ask_again)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]  # for every command, wherever it stands
    sys.exit(_guarded(lambda: app(words, standalone_mode=False), debug=debug))


def _ask_again(*_: Any) -> None:
    """SLURM's time is over where nothing is being trained: what stands is kept, and the job asked for again."""
    if is_first():
        requeue()
    raise KeyboardInterrupt


def _guarded(command: Callable[[], Any], *, debug: bool) -> int:
    try:
        return int(command() or 0)
    except UserError as error:
        if debug:
            traceback.print_exc()
        for mistake in error.mistakes[:SHOWN]:
            _complain(mistake)
        if len(error.mistakes) > SHOWN:
            _complain(f"and {len(error.mistakes) - SHOWN} mistakes more")
        return 2
    except typer.Exit as leave:
        if leave.exit_code == INTERRUPTED:  # Typer's own answer to Ctrl-C
            _complain("interrupted")
        return leave.exit_code
    except UsageError as error:
        _complain(error.format_message())
        return 2
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return INTERRUPTED
    except Interrupted as error:
        _complain(error)
        return INTERRUPTED
    except (Diverged, OSError) as error:
        if debug:
            traceback.print_exc()
        _complain(system_words(error) if isinstance(error, OSError) else error)
        return 2 if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG else 1
    except (MemoryError, RuntimeError) as error:
        if debug or not is_out_of_memory(error):
            raise
        advice = "choose a smaller network, --batch-size or --image-size"
        _complain(f"not enough memory ({brief(str(error))}); {advice}")
        return 2


def _complain(text: object) -> None:
    """The first of several processes speaks for all."""
    if is_first():
        print(f"gemel: {text}", file=sys.stderr)


def _dry_run(layer: Any) -> None:
    from gemel.api.pretrain import ready, speaker
    from gemel.settings.tree import render

    prepared = ready(layer, say=speaker(False))
    if is_first() and prepared.claim is not None:
        print(f"run folder: {prepared.claim.path} (not made)\n\n{render(prepared.settings.model_dump())}", end="")


def _pretrain_help() -> str:
    from gemel.settings.schema import describe
    from gemel.settings.tree import Launch, Settings

    lines = ["Usage: gemel pretrain [IMAGES] [OPTIONS]", "", "Learn an encoder from images without labels.", ""]
    lines += [f"  IMAGES{'':18} {Settings.model_fields['images'].description}"]
    for key, _, default, meaning in (*describe(Settings), *describe(Launch)):
        if key != "images":
            shown = f" [{default}]" if default and default != "False" else ""
            lines.append(f"  --{key.replace('_', '-'):22} {meaning}{shown}")
    return "\n".join([*lines, "", "gemel settings METHOD lists every dotted option, --optimizer.lr and the like."])
