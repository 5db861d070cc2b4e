"""Tables as files of several formats."""

from pathlib import Path
from typing import Any


def write_table(table: Any, out: Path) -> None:
    """Write a table as .csv, .npz or .parquet, whole or not at all."""
    import numpy as np
    from pyarrow import csv, parquet

    from gemel.runs.run import write_atomically

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
