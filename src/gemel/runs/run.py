"""Run: a run's folder, the names of its files, how to read and write them; nothing else is state."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import parquet

from gemel.errors import UserError, brief
from gemel.runs.archive import is_whole
from gemel.runs.files import flush, json_mapping, read_file, read_mapping_of_json, write_atomically, write_text
from gemel.settings.config_file import read_mapping

T = TypeVar("T")

RUN_FILE = "run.yaml"
GALLERY = "evaluations/gallery.json"
"""the last file of the closing pass"""
LIVE = "evaluations/live.json"
"""how far a run is that has not ended"""
UNFINISHED = "<!doctype html><!-- of a run that has not ended -->"
"""how the report begins while the run goes on"""
BOTTLENECK = "evaluations/bottleneck.json"
KINDS = "evaluations/kinds.json"
"""how many kinds of images there seem to be"""
FAMILIAR = "evaluations/familiar.npz"
"""what images are compared with, to mark those unlike any that the run has learned from"""
LEFT_OUT = "left_out.csv"
"""duplicates that training leaves out"""
MAP = "evaluations/map.parquet"
"""where each image lies on the explorer's map, and what is near it"""
EXPLORER = "explorer.html"
CHECK = "evaluations/check.json"
CHECK_TABLE = "check.csv"
"""what is wrong with the images, a row for each finding"""


class Run:
    """One run's folder.

    Args:
        path: the folder; must hold a run.yaml.

    Raises:
        UserError: there is no run at `path`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not os.path.isfile(self.path / RUN_FILE):  # noqa: PTH113  Path's raises for a name that is too long
            what = "holds no run.yaml" if os.path.isdir(self.path) else "is not a folder"  # noqa: PTH112
            raise UserError(f"{brief(str(self.path))} {what}; give the folder of a run, as gemel pretrain makes it")

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

    def setting(self, key: str) -> Any:
        """Return one setting.

        Raises:
            UserError: run.yaml is damaged.
        """
        settings = self.settings
        if key not in settings:
            raise UserError(f"{self.path / RUN_FILE} is damaged: {key} is missing")
        return settings[key]

    @property
    def method_name(self) -> str:
        """Name of the run's method, or the Python file that it is in.

        Raises:
            UserError: run.yaml is damaged.
        """
        method = self.setting("method")
        name = method.get("name") if isinstance(method, dict) else None
        if not isinstance(name, str):
            raise UserError(f"{self.path / RUN_FILE} is damaged: it names no method")
        return name

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, hardware and commit of the training."""
        return read_mapping_of_json(self.path / "environment.json") or {}

    @property
    def checkpoint_path(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def previous_path(self) -> Path:
        """The checkpoint before the newest, for a newest one that is damaged or not finite."""
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
        """Whether the last files of training, closing pass and report are there, the report not one of a run under way.

        What they hold is not looked at beyond that.
        """
        names = ("backbone.safetensors", MAP, EXPLORER, GALLERY, "report.html")
        if not all((self.path / name).is_file() for name in names):
            return False
        with self.report_path.open("rb") as file:
            return not file.read(len(UNFINISHED)).startswith(UNFINISHED.encode())

    @property
    def backbone_path(self) -> Path:
        """The trained backbone's tensors."""
        return self.path / "backbone.safetensors"

    @property
    def backbone_facts(self) -> dict[str, Any]:
        """Name, options, width, size, mean, std and views of the backbone.

        Raises:
            UserError: the run has not ended yet, or backbone.json is damaged.
        """
        path = self.path / "backbone.json"
        facts = read_mapping_of_json(path)
        if not facts or not self.backbone_path.is_file():
            raise UserError(f"{self.path} has no backbone yet; gemel resume {self.path} brings the run to its end")
        kinds = {"name": str, "options": dict, "width": int, "size": int, "mean": list, "std": list, "views": str}
        wrong = [name for name, kind in kinds.items() if type(facts.get(name)) is not kind]
        if wrong or Path(facts["name"]).name != facts["name"]:  # exported files are called as the network is
            raise UserError(f"{path} is damaged: {', '.join(wrong or ['name'])} missing or not as gemel writes it")
        return facts

    @property
    def report_path(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def explorer_path(self) -> Path:
        """The page of the map and the classes."""
        return self.path / EXPLORER

    @property
    def metrics_path(self) -> Path:
        """One row a logged step."""
        return self.path / "metrics.csv"

    def clear(self) -> None:
        """Remove what a process that was killed left half-written."""
        for part in self.path.glob("**/.*.part"):
            part.unlink(missing_ok=True)

    def flush_metrics(self) -> None:
        """Write the rows of metrics.csv to the disk: no checkpoint may know of rows that are lost."""
        if self.metrics_path.is_file():
            flush(self.metrics_path)

    def metrics(self) -> pa.Table:
        """Return metrics.csv as a table; cells that were not measured are null.

        Raises:
            UserError: it is damaged.
        """
        return read_file(self.metrics_path, _metrics_table) if self.metrics_path.is_file() else pa.table({})

    def evaluations(
        self, tell: Callable[[str], object] | None = None, *, network: str = "trained"
    ) -> list[dict[str, Any]]:
        """Return the results of the evaluations: protocol, metrics, settings; in the order of their files' names.

        Args:
            tell: takes what is wrong with a damaged result, which is left out; None: it is an error.
            network: trained: the run's own; else another that was judged beside it: `pixels`, or `random-SEED`.

        Raises:
            UserError: a result is damaged.
        """
        found: list[dict[str, Any]] = []
        folder = self.path if network == "trained" else self.path / "networks" / network
        for path in sorted((folder / "evaluations").glob("*-*.json")):
            try:
                found.append(read_file(path, _evaluation))
            except UserError as error:
                if tell is None:
                    raise
                tell(str(error))
        return found

    def rejected(self) -> pa.Table:
        """Return the unreadable files: path, reason.

        Raises:
            UserError: rejected.csv is damaged.
        """
        path = self.path / "rejected.csv"
        rows = read_file(path, _csv_rows) if path.is_file() else []
        if rows and not {"path", "reason"} <= set(rows[0]):
            raise UserError(f"{path} is damaged: it has no columns path and reason; delete it")
        return pa.table({name: pa.array([row[name] for row in rows], pa.string()) for name in ("path", "reason")})

    def write_rejected(self, rows: Mapping[str, str]) -> None:
        """Write rejected.csv: reasons by path."""

        def write(temporary: Path) -> None:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("path", "reason"), *sorted(rows.items())])

        write_atomically(self.path / "rejected.csv", write)

    def left_out(self) -> list[tuple[int, str, int]]:
        """Return the duplicates that training leaves out: index, name within the images, index of the one that stays.

        Raises:
            UserError: left_out.csv is missing or damaged.
        """
        path = self.path / LEFT_OUT
        if not path.is_file():
            again = f"gemel pretrain --config {self.path / RUN_FILE}"
            raise UserError(f"{path} is missing, which names the duplicates that are left out; start again: {again}")
        return read_file(path, _left_out)

    def write_left_out(self, rows: Iterable[tuple[int, str, int]]) -> None:
        """Write left_out.csv: index, name, of."""

        def write(temporary: Path) -> None:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("index", "name", "of"), *rows])

        write_atomically(self.path / LEFT_OUT, write)

    def classes(self) -> pa.Table | None:
        """Return the discovered class of every image: path, class, probability [, label]; None without classes.

        Raises:
            UserError: classes.parquet is damaged.
        """
        path = self.path / "classes.parquet"
        return read_file(path, _class_table) if path.is_file() else None

    def write_classes(self, table: pa.Table) -> None:
        """Write classes.parquet."""
        write_atomically(self.path / "classes.parquet", lambda temporary: parquet.write_table(table, temporary))

    def gallery(self) -> dict[str, Any] | None:
        """Return pictures for the report: of each class, and of the neighbours of a few images."""
        return read_mapping_of_json(self.path / GALLERY)

    def bottleneck(self) -> dict[str, Any] | None:
        """Return embeddings read as an information bottleneck, for the report."""
        return read_mapping_of_json(self.path / BOTTLENECK)

    def kinds(self) -> dict[str, Any] | None:
        """Return how many kinds of images there seem to be; None where the number was given."""
        return read_mapping_of_json(self.path / KINDS)

    def check(self) -> dict[str, Any] | None:
        """Return what is wrong with the images, and pictures of it, for the report."""
        return read_mapping_of_json(self.path / CHECK)

    def check_rows(self) -> list[dict[str, str]]:
        """Return the rows of check.csv: path, finding, of, value, about; none where there is no such file.

        Raises:
            UserError: it is damaged.
        """
        path = self.path / CHECK_TABLE
        rows = read_file(path, _csv_rows) if path.is_file() else []
        if rows and not {"path", "finding"} <= set(rows[0]):
            raise UserError(f"{path} is damaged: it has no columns path and finding; delete it")
        return rows

    def map(self) -> pa.Table | None:
        """Return the map of the images, a row for each, as the closing pass writes it; None where there is none.

        Raises:
            UserError: evaluations/map.parquet is damaged.
        """
        path = self.path / MAP
        return read_file(path, _map_table) if path.is_file() else None

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run."""
        write_text(self.path / name, json.dumps(value, indent=1))


def _csv_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a head; a last line that was cut short when the process died is left out."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    names = reader.fieldnames or []
    if len(set(names)) < len(names):
        raise ValueError("a column stands twice in its head")
    wrong = [number for number, row in enumerate(rows, 1) if None in row or None in row.values()]
    if wrong and wrong[0] < len(rows):
        raise ValueError(f"row {wrong[0]} does not have {len(names)} cells")
    return rows[:-1] if wrong else rows


def _left_out(path: Path) -> list[tuple[int, str, int]]:
    try:
        return [(int(row["index"]), row["name"], int(row["of"])) for row in _csv_rows(path)]
    except KeyError as error:
        raise ValueError(f"it has no column {error}") from error


def _metrics_table(path: Path) -> pa.Table:
    rows = _csv_rows(path)
    names = list(rows[0]) if rows else []
    return pa.table({name: _column(name, [row[name] for row in rows]) for name in names})


def _column(name: str, cells: list[str]) -> pa.Array:
    """Return cells of metrics.csv in the column's type: text, counts, else numbers; an empty cell is null."""
    if name == "stage":
        return pa.array(cells, pa.string())
    kind, read = (pa.int64(), int) if name in ("epoch", "step") else (pa.float64(), float)
    return pa.array([read(cell) if cell else None for cell in cells], kind)


def _evaluation(path: Path) -> dict[str, Any]:
    found = {"settings": {}} | json_mapping(path)
    metrics, settings = found.get("metrics"), found["settings"]
    if not isinstance(found.get("protocol"), str) or not isinstance(metrics, dict) or not isinstance(settings, dict):
        raise ValueError("it is no result: protocol, metrics and settings")
    wrong = [name for name, value in metrics.items() if isinstance(value, bool) or not isinstance(value, int | float)]
    if wrong:
        raise ValueError(f"{wrong[0]} is no number")
    return found


def _class_table(path: Path) -> pa.Table:
    table = parquet.read_table(path)
    kinds = {"path": pa.types.is_string, "class": pa.types.is_integer, "probability": pa.types.is_floating}
    for name, fits in kinds.items():
        if name not in table.column_names or not fits(table.schema.field(name).type):
            raise ValueError(f"it has no column {name} of the right type")
    return table


def _map_table(path: Path) -> pa.Table:
    table = parquet.read_table(path)
    missing = {"index", "path", "file", "x", "y", "level", "part", "neighbours", "similarity", "class", "probability"}
    missing -= set(table.column_names)
    if missing or not {b"images", b"classes"} <= set(table.schema.metadata or {}):
        raise ValueError(f"it is no map: {', '.join(sorted(missing)) or 'numbers of images and classes'} missing")
    return table
