"""The command line: read flags, call one library function, print its answer."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from gemel.commands.evaluate import evaluate
from gemel.errors import Diverged, Interrupted, UserError

app = typer.Typer(
    name="gemel",
    help="Vision encoders from images without labels, and the classes that it finds in them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RAW = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""arguments are handed on as they are typed: the one checker reads them"""

UsageError: Any = typer.BadParameter.__bases__[0]
"""of click, which Typer either depends on or carries with it"""

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run")]
Images = Annotated[str, typer.Argument(metavar="IMAGES", help="folder, text file of paths, or name of a data set")]


@app.command(context_settings=RAW)
def pretrain(context: typer.Context) -> None:
    """Learn an encoder, and classes, from images without labels:  gemel pretrain ./photos"""
    if _asks_help(context.args):
        print(_pretrain_help())
        return
    import gemel
    from gemel.settings import Launch, Settings, layer_of_flags
    from gemel.train.asked import is_true

    layer = layer_of_flags(context.args, ["images"], Settings, Launch)
    if is_true(layer.values.get("dry_run")):
        _dry_run(layer)
    else:
        gemel._pretrain(layer, quiet=False)  # pyright: ignore[reportPrivateUsage]


@app.command()
def resume(run: RunFolder) -> None:
    """Continue an interrupted run to the same end, bit for bit."""
    import gemel

    gemel.resume(run)


app.command(context_settings=RAW)(evaluate)


@app.command()
def embed(run: RunFolder, images: Images, out: Annotated[Path, typer.Option(help="F.parquet or F.npz")]) -> None:
    """Write the features of images: one row an image, path and vector."""
    _check_suffix(out, ".parquet", ".npz")
    import gemel

    table = gemel.embed(run, images, quiet=False)
    _write_table(table, out)
    print(f"{table.num_rows} images, {table.column('vector').type.list_size} numbers each: {out}")


@app.command()
def classify(
    run: RunFolder,
    images: Images,
    out: Annotated[Path, typer.Option(help="F.parquet or F.csv")],
    into: Annotated[Path | None, typer.Option(help="make a folder of links for each class here")] = None,
    top: Annotated[int, typer.Option(help="classes told for each image")] = 3,
) -> None:
    """Write the discovered class of images: path, class, probability, and the next likely ones."""
    _check_suffix(out, ".parquet", ".csv")
    if into is not None:
        _check_links(images, into)
    import gemel

    table = gemel.classify(run, images, top=top, quiet=False)
    _write_table(table, out)
    used = len(set(table.column("class").to_pylist()))
    print(f"{table.num_rows} images in {used} classes: {out}")
    if into is not None:
        _link(table, into)
        print(f"links: {into}")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of runs")],
    out: Annotated[Path | None, typer.Option(help="the file; else RUN/report.html")] = None,
) -> None:
    """Write one self-contained HTML page of one or several runs."""
    import gemel

    print(gemel.report(list(runs), out))


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
    from gemel.recipes import OPTIMIZERS, VIEWS
    from gemel.schema import describe, schema_of
    from gemel.settings import Settings

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
    from gemel.settings import render

    variant, found = room.find_recipe(method)
    name = method.partition("/")[0]
    values = found.model_dump(exclude={"source", "images", "method"})
    options = dict(found.method)
    values = {"method": {"name": name, "recipe": variant, **options}, **values}
    print(f"# {name}/{variant}: {found.source}\n# gemel pretrain IMAGES --config THIS_FILE\n{render(values)}", end="")


def main(arguments: list[str] | None = None) -> None:
    """Run a command; 0 done, 2 the user's words or files are at fault, 130 interrupted, 1 anything else."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]  # for every command, wherever it stands
    sys.exit(_guarded(lambda: app(words, standalone_mode=False), debug=debug))


def _guarded(command: Callable[[], Any], *, debug: bool) -> int:
    try:
        return int(command() or 0)
    except UserError as error:
        if debug:
            raise
        for mistake in error.mistakes:
            print(f"gemel: {mistake}", file=sys.stderr)
        return 2
    except typer.Exit as leave:
        return leave.exit_code
    except UsageError as error:
        print(f"gemel: {error.format_message()}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        print("gemel: interrupted", file=sys.stderr)
        return 130
    except Interrupted as error:
        print(f"gemel: {error}", file=sys.stderr)
        return 130
    except (Diverged, OSError) as error:
        if debug:
            raise
        print(f"gemel: {error}", file=sys.stderr)
        return 1


def _dry_run(layer: Any) -> None:
    from gemel.settings import render
    from gemel.train.asked import asked_for

    asked = asked_for([layer])
    from gemel.train.prepare import prepare  # brings torch: after the mistakes that need none

    prepared = prepare(asked, print)
    print(f"run folder: {prepared.folder} (not made)\n\n{render(prepared.settings.model_dump())}", end="")


def _asks_help(arguments: list[str]) -> bool:
    return "--help" in arguments or "-h" in arguments


def _pretrain_help() -> str:
    from gemel.schema import describe
    from gemel.settings import Launch, Settings

    lines = ["Usage: gemel pretrain [IMAGES] [OPTIONS]", "", "Learn an encoder from images without labels.", ""]
    lines += [f"  IMAGES{'':18} {Settings.model_fields['images'].description}"]
    for key, _, default, meaning in (*describe(Settings), *describe(Launch)):
        if key != "images":
            shown = f" [{default}]" if default and default != "False" else ""
            lines.append(f"  --{key.replace('_', '-'):22} {meaning}{shown}")
    return "\n".join([*lines, "", "gemel settings METHOD lists every dotted option, --optimizer.lr and the like."])


def _check_suffix(path: Path, *allowed: str) -> None:
    if path.suffix not in allowed:
        raise UserError(f"--out {path} must end in {' or '.join(allowed)}")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.absolute().parent}; make it first")


def _write_table(table: Any, out: Path) -> None:
    import numpy as np
    from pyarrow import csv, parquet

    from gemel.runs import write_atomically

    def write(temporary: Path) -> None:
        if out.suffix == ".csv":
            csv.write_csv(table, temporary)
        elif out.suffix == ".npz":
            vectors = table.column("vector").combine_chunks()
            with temporary.open("wb") as file:
                np.savez(
                    file,
                    path=np.array(table.column("path").to_pylist()),
                    vector=vectors.values.to_numpy().reshape(len(vectors), -1),
                )
        else:
            parquet.write_table(table, temporary)

    write_atomically(out, write)


def _check_links(images: str, into: Path) -> None:
    """Before the images are looked at: is there something to link, and room for it?"""
    if not Path(images).expanduser().exists():
        raise UserError(f"--into needs files; {images} is a data set")
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise UserError(f"--into {into} is not empty; name a new folder")


def _link(table: Any, into: Path) -> None:
    """A folder for each class, in it links to its images; the images stay where they are."""
    for path, number in zip(table.column("path").to_pylist(), table.column("class").to_pylist(), strict=True):
        image = Path(path).absolute()
        folder = into / f"{number:04}"
        folder.mkdir(parents=True, exist_ok=True)
        link, copy = folder / image.name, 1
        while link.is_symlink():  # images of one name from several folders
            copy += 1
            link = folder / f"{image.stem}-{copy}{image.suffix}"
        link.symlink_to(image)
