"""gemel embed."""

from pathlib import Path
from typing import Annotated

import typer

from gemel.cli.arguments import Images, RunFolder
from gemel.cli.tables import write_table
from gemel.launcher import launched
from gemel.runs.output_paths import check_suffix


def embed(run: RunFolder, images: Images, out: Annotated[Path, typer.Option(help="F.parquet or F.npz")]) -> None:
    """Write the features of images: one row an image, path and vector."""
    check_suffix(out, ".parquet", ".npz")
    import gemel

    table = gemel.embed(run, images, quiet=False)
    if launched().rank != 0:
        return
    write_table(table, out)
    print(f"{table.num_rows} images, {table.column('vector').type.list_size} numbers each: {out}")
