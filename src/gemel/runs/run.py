"""Run: a run's folder, the names of its files, how to read and write them; nothing else is state."""

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from gemel.runs.archive import is_whole
from gemel.settings.config_file import read_mapping
from gemel.errors import UserError

RUN_FILE = "run.yaml"
GALLERY = "evaluations/gallery.json"
"""the last file of the closing pass"""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk, then rename: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """What the system still holds in memory goes to the disk: a file's bytes, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        UserError: it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON's grammar, or of UTF-8
        raise UserError(f"{path} is damaged: {error}; delete it and run the command again") from error


class Run:
    """One run's folder.

    Args:
        path: the folder; must hold a run.yaml.

    Raises:
        UserError: there is no run at `path`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / RUN_FILE).is_file():
            what = "holds no run.yaml" if self.path.is_dir() else "is not a folder"
            raise UserError(f"{self.path} {what}; give the folder of a run, as gemel pretrain makes it")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting of the run, as in run.yaml."""
        try:
            found = read_mapping(self.path / RUN_FILE)
        except UserError as error:
            raise UserError(f"{self.path / RUN_FILE} is damaged: it {error}") from error
        if not found:
            raise UserError(f"{self.path / RUN_FILE} is damaged: it holds no settings")
        return found

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, hardware and commit of the training."""
        return self._json("environment.json") or {}

    @property
    def checkpoint_path(self) -> Path:
        """The newest whole checkpoint's place."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def previous_path(self) -> Path:
        """The checkpoint before the newest: what is left if that one is damaged."""
        return self.path / "checkpoints" / "previous.ckpt"

    @property
    def is_trained(self) -> bool:
        """Whether the training has come to its end; the closing pass may not. Checkpoints may be deleted then."""
        if not self.backbone_path.is_file():
            return False
        kept = self.checkpoint_path.is_file() or self.previous_path.is_file()
        return not kept or is_whole(self.checkpoint_path)

    @property
    def is_finished(self) -> bool:
        """Whether the last files of training, closing pass and report are there; what they hold is not looked at."""
        return all(path.is_file() for path in (self.backbone_path, self.path / GALLERY, self.report_path))

    @property
    def backbone_path(self) -> Path:
        """The trained backbone's tensors."""
        return self.path / "backbone.safetensors"

    @property
    def backbone_facts(self) -> dict[str, Any]:
        """Name, options, width, size, mean and std of the backbone.

        Raises:
            UserError: the run has not ended yet.
        """
        facts = self._json("backbone.json")
        if not facts or not self.backbone_path.is_file():
            raise UserError(f"{self.path} has no backbone yet; gemel resume {self.path} brings the run to its end")
        return facts

    @property
    def report_path(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def metrics_path(self) -> Path:
        """One row a logged step."""
        return self.path / "metrics.csv"

    def clear(self) -> None:
        """Remove what a process that was killed left half-written."""
        for part in self.path.glob("**/.*.part"):
            part.unlink(missing_ok=True)

    def flush_metrics(self) -> None:
        """Rows of metrics.csv reach the disk: a checkpoint on it never knows of rows that are lost."""
        if self.metrics_path.is_file():
            _flush(self.metrics_path)

    def metrics(self) -> pa.Table:
        """metrics.csv as a table; cells that were not measured are null."""
        if not self.metrics_path.is_file():
            return pa.table({})
        with self.metrics_path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        names = list(rows[0]) if rows else []
        return pa.table({name: _column(name, [row[name] for row in rows]) for name in names})

    def evaluations(self) -> list[dict[str, Any]]:
        """Results of the evaluations: protocol, metrics, settings; in the order of their names."""
        files = sorted((self.path / "evaluations").glob("*-*.json"))
        return [read_json(file) for file in files]

    def rejected(self) -> pa.Table:
        """Unreadable files: path, reason."""
        path = self.path / "rejected.csv"
        rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        return pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in ("path", "reason")})

    def write_rejected(self, rows: Mapping[str, str]) -> None:
        """Write rejected.csv: reasons by path."""

        def write(temporary: Path) -> None:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("path", "reason"), *sorted(rows.items())])

        write_atomically(self.path / "rejected.csv", write)

    def classes(self) -> pa.Table | None:
        """The discovered class of every image: path, class, probability [, label]; None if the method has none."""
        path = self.path / "classes.parquet"
        return parquet.read_table(path) if path.is_file() else None

    def write_classes(self, table: pa.Table) -> None:
        """Write classes.parquet."""
        write_atomically(self.path / "classes.parquet", lambda temporary: parquet.write_table(table, temporary))

    def gallery(self) -> dict[str, Any] | None:
        """Pictures for the report: of each class, and of the neighbours of a few images."""
        return self._json(GALLERY)

    def bottleneck(self) -> dict[str, Any] | None:
        """Return embeddings read as an information bottleneck, for the report."""
        return self._json("evaluations/bottleneck.json")

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run."""
        write_text(self.path / name, json.dumps(value, indent=1))

    def _json(self, name: str) -> Any:
        path = self.path / name
        return read_json(path) if path.is_file() else None


class MetricsLog:
    """metrics.csv, row by row; a row with a new column rewrites the file's head.

    Args:
        path: the file; rows after `until` steps are cut off, since a resumed run makes them anew.
    """

    def __init__(self, path: Path, *, until: int = 0) -> None:
        self.path = path
        self._columns: list[str] = []
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                rows = [row for row in csv.DictReader(file) if _complete(row) and int(row["step"]) <= until]
            self._columns = list(rows[0]) if rows else []
            self._rewrite(rows)

    def append(self, row: Mapping[str, float | int | str]) -> None:
        """Add a row; numbers are written so that reading gives the same number back."""
        new = [name for name in row if name not in self._columns]
        if new:
            rows: Sequence[Mapping[str, Any]] = []
            if self._columns:
                with self.path.open(encoding="utf-8", newline="") as file:
                    rows = list(csv.DictReader(file))
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
    """False for a line that was cut short when the process died."""
    return None not in row and None not in row.values() and (row.get("step") or "").isdigit()


def _column(name: str, cells: list[str]) -> pa.Array:
    """Cells of metrics.csv in the column's type: text, counts, else numbers; an empty cell is null."""
    if name == "stage":
        return pa.array(cells, pa.string())
    kind, read = (pa.int64(), int) if name in ("epoch", "step") else (pa.float64(), float)
    return pa.array([read(cell) if cell else None for cell in cells], kind)
