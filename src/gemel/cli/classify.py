"""gemel classify."""

from pathlib import Path
from typing import Any

from gemel.cli.tables import check_links, link
from gemel.launcher import launched
from gemel.runs.tables import write_table


def classify(run: str, images: str | None = None, *, out: str, into: str | None = None, **options: Any) -> None:
    """Write the discovered class of images: path, class, probability, and the next likely classes.

    Args:
        run: folder of a run
        images: folder, text file of paths, archive, table or name of a dataset; left out: the run's own images
        out: F.parquet or F.csv
        into: new folder that gets a folder of links for each class
    """
    import gemel

    if into is not None:
        check_links(images or gemel.load(run).settings["images"], Path(into))
    table = gemel.classify(run, images, quiet=False, **options)
    if launched().rank != 0:
        return
    write_table(table, Path(out))
    used = len(set(table.column("class").to_pylist()))
    print(f"{table.num_rows} images in {used} classes: {out}")
    unlike = sum(table.column("unlike").to_pylist()) if "unlike" in table.column_names else 0
    if unlike:
        print(f"{unlike} of them are unlike any image that the run has learned from; see the column unlike")
    if into is not None:
        link(table, Path(into))
        print(f"links: {into}")
