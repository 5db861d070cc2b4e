"""gemel classify."""

from pathlib import Path
from typing import Annotated

import typer

from gemel.cli.arguments import Images, RunFolder
from gemel.cli.tables import check_links, link, write_table
from gemel.launcher import launched
from gemel.runs.output_paths import check_suffix


def classify(
    run: RunFolder,
    images: Images,
    out: Annotated[Path, typer.Option(help="F.parquet or F.csv")],
    into: Annotated[Path | None, typer.Option(help="make a folder of links for each class here")] = None,
    top: Annotated[int, typer.Option(help="classes told for each image")] = 3,
    labels: Annotated[str | None, typer.Option(help="folders or FILE.csv of a sample: names the classes")] = None,
    naming: Annotated[str, typer.Option(help="one_to_one (Kuhn-Munkres) or majority")] = "one_to_one",
    rename: Annotated[list[str] | None, typer.Option(help="CLASS=NAME; one name for several merges them")] = None,
) -> None:
    """Write the discovered class of images: path, class, probability, and the next likely ones."""
    check_suffix(out, ".parquet", ".csv")
    if into is not None:
        check_links(images, into)
    import gemel

    words = rename or []
    table = gemel.classify(run, images, top=top, labels=labels, naming=naming, rename=words, quiet=False)
    if launched().rank != 0:
        return
    write_table(table, out)
    used = len(set(table.column("class").to_pylist()))
    print(f"{table.num_rows} images in {used} classes: {out}")
    if into is not None:
        link(table, into)
        print(f"links: {into}")
