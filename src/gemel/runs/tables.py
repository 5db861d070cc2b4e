"""Tables as files of several formats."""

from pathlib import Path
from typing import Any


def write_table(table: Any, out: Path) -> None:
    """Write a table as .csv, .npz or .parquet, whole or not at all."""
    import numpy as np
    from pyarrow import csv, parquet

    from gemel.runs.files import write_atomically

    def write(temporary: Path) -> None:
        if out.suffix == ".csv":
            csv.write_csv(_flat(table), temporary)
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


def _flat(table: Any) -> Any:
    """Return a table with a column for each number of its vectors, as CSV has no lists: vector_0, vector_1, ..."""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if not pa.types.is_fixed_size_list(column.type):
            columns[name] = column
            continue
        rows = column.values.to_numpy().reshape(len(column), -1)
        digits = len(str(rows.shape[1] - 1))
        columns |= {f"{name}_{number:0{digits}d}": rows[:, number] for number in range(rows.shape[1])}
    return pa.table(columns)
