"""metrics.csv as it is written: a row for each logged step."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gemel.runs.files import read_file, write_atomically


class MetricsLog:
    """metrics.csv, row by row; a row with a new column rewrites the file's head.

    Args:
        path: the file; rows after `until` steps are cut off, since a resumed run makes them anew.

    Raises:
        UserError: the file is damaged.
    """

    def __init__(self, path: Path, *, until: int = 0) -> None:
        self.path = path
        self._columns: list[str] = []
        if path.is_file():
            rows = [row for row in read_file(path, _any_rows) if _complete(row) and int(row["step"]) <= until]
            self._columns = list(rows[0]) if rows else []
            self._rewrite(rows)

    def append(self, row: Mapping[str, float | int | str]) -> None:
        """Add a row; numbers are written so that reading gives the same number back."""
        new = [name for name in row if name not in self._columns]
        if new:
            rows: Sequence[Mapping[str, Any]] = read_file(self.path, _any_rows) if self._columns else []
            self._columns += new
            self._rewrite(rows)
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(dict(row))

    def _rewrite(self, rows: Sequence[Mapping[str, Any]]) -> None:
        def write(temporary: Path) -> None:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, self._columns)
                if self._columns:
                    writer.writeheader()
                    writer.writerows(rows)

        write_atomically(self.path, write)


def _complete(row: Mapping[str | None, str | None]) -> bool:
    """Return False for a line that was cut short when the process died."""
    return None not in row and None not in row.values() and (row.get("step") or "").isdigit()


def _any_rows(path: Path) -> list[dict[Any, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
