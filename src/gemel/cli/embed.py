"""gemel embed."""

from pathlib import Path
from typing import Any

from gemel.errors import UserError
from gemel.launcher import launched
from gemel.runs.tables import write_table


def embed(run: str, images: str | None = None, *, out: str, **options: Any) -> None:
    """Write the features of images: one row per image, path and vector.

    Args:
        run: folder of a run
        images: folder, text file of paths, archive, table or name of a dataset; left out: the run's own images
        out: F.parquet, F.npz or F.csv
    """
    import gemel

    if options.get("pictures") and not out.endswith(".parquet"):
        raise UserError(f"--pictures needs --out F.parquet, not {out}")
    table = gemel.embed(run, images, quiet=False, **options)
    if launched().rank != 0:
        return
    write_table(table, Path(out))
    print(f"{table.num_rows} images, {table.column('vector').type.list_size} numbers each: {out}")
