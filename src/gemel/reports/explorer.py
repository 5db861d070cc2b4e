"""The explorer: the page of a run's map, filled with its images; one file, or served by `gemel explore`."""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gemel.reports.method_facts import method_facts
from gemel.runs.class_names import read_names
from gemel.runs.edits import read_edits
from gemel.runs.files import read_file, write_text
from gemel.runs.output_paths import short_name
from gemel.runs.run import Run

SHELL = Path(__file__).parent / "explorer.html"
"""built from web/ by `make web`"""
IN_A_FILE = 20_000
"""images of a page that is one file; they are spread over the whole map"""
BUDGET = 9_500_000
"""bytes of the pictures in such a page: 12.7 MB in base64"""
NONE = 0xFFFF
NO_ROW = 0xFFFFFFFF
UNREADABLE = "unreadable"
EDITS_START = '<script type="application/json" id="edits">'


class PictureFacts(NamedTuple):
    """How the small pictures lie on their sheets."""

    side: int
    """of a picture, pixels; 0: there are none"""
    kind: str
    """png or webp"""
    columns: int
    """as many as rows"""


def write_explorer(run: Run, table: pa.Table, pictures: PictureFacts, sheets: Sequence[bytes]) -> None:
    """Write explorer.html.

    Args:
        run: the run.
        table: of its map.
        pictures: of the first images of the table.
        sheets: as files; of the first `IN_A_FILE` images.
    """
    shown = table.slice(0, IN_A_FILE)
    blocks = {"points": points(shown), "neighbours": neighbours(shown), "paths": paths(shown)}
    blocks |= {f"sheet-{number}": sheet for number, sheet in enumerate(sheets)}
    write_text(run.explorer_path, page(run, shown, pictures, blocks, images=table.num_rows))


def page(run: Run, table: pa.Table, pictures: PictureFacts, blocks: Mapping[str, bytes] | None, *, images: int) -> str:
    """Return the page.

    Args:
        run: the run.
        table: of the images on it.
        pictures: how they lie on their sheets.
        blocks: what the page holds; None: it fetches them.
        images: of the whole map.
    """
    facts = _facts(run, table, pictures, served=blocks is None)
    shell = SHELL.read_text(encoding="utf-8")
    first, rest = [_json_block("facts", facts), _json_block("edits", edits_of(run, table))], list[str]()
    for name, data in (blocks or {}).items():
        (first if name == "points" else rest).append(
            f'<script type="text/plain" id="{name}">{base64.b64encode(data).decode()}</script>'
        )
    fills = {
        "<!--title-->": escape(facts["title"]),
        "<!--note-->": _note(table.num_rows, images),
        "<!--first-->": "\n".join(first),
        "<!--rest-->": "\n".join(rest),
    }
    for mark, text in fills.items():
        shell = shell.replace(mark, text)
    return shell


def renew_edits(run: Run, table: pa.Table) -> None:
    """Bring the edits that explorer.html starts from up to date; pictures and the rest stay as they are.

    Raises:
        UserError: the page can't be read.
    """
    if not run.explorer_path.is_file():
        return
    before, found, rest = read_file(run.explorer_path, _text).partition(EDITS_START)
    if found:
        _, end, after = rest.partition("</script>")
        block = _json_block("edits", edits_of(run, table.slice(0, IN_A_FILE)))
        write_text(run.explorer_path, before + block.removesuffix("</script>") + end + after)


def edits_of(run: Run, table: pa.Table) -> dict[str, Any]:
    """Return what the page starts from: names of classes, and by rows the images moved by hand and the wrong ones."""
    names, edits = read_names(run), read_edits(run)
    moved, wrong = dict[int, str](), list[int]()
    if edits.moved or edits.wrong:
        for row, path in enumerate(table["path"].to_pylist()):
            target = edits.moved.get(path)
            if target is not None:
                moved[row] = target
            if edits.wrong.get(path):
                wrong.append(row)
    return {"names": names, "moved": moved, "wrong": wrong}


def points(table: pa.Table) -> bytes:
    """Return places, classes, labels, probabilities, levels and parts as columns, little-endian, wide ones first."""
    codes = np.full(table.num_rows, NONE, np.uint16)
    if "label" in table.column_names:
        known = {name: number for number, name in enumerate(_labels(table))}
        codes[:] = [known.get(label, NONE) for label in table["label"].to_pylist()]
    unit = [np.round(table[name].to_numpy() * 65535).astype("<u2") for name in ("x", "y")]
    shares = np.round(_matrix(table, "probability") * 65535).clip(0, 65535).astype("<u2")
    columns = [*unit, _matrix(table, "class").astype("<u2"), shares, codes.astype("<u2")]
    columns += [table[name].to_numpy().astype(np.uint8) for name in ("level", "part")]
    return b"".join(column.tobytes() for column in columns)


def neighbours(table: pa.Table) -> bytes:
    """Return rows and similarities of each image's nearest ones; of those that are not in this table there is none."""
    rows = _matrix(table, "neighbours")
    known = np.where(rows < table.num_rows, rows, NO_ROW).astype("<u4")
    shares = np.round(_matrix(table, "similarity").clip(0, 1) * 255).astype(np.uint8)
    return known.tobytes() + shares.tobytes()


def paths(table: pa.Table) -> bytes:
    """Return the paths as JSON: folders, the folder of each image, and its name there."""
    folders, folder, names = dict[str, int](), list[int](), list[str]()
    for path in table["path"].to_pylist():
        above, slash, name = path.rpartition("/")
        folder.append(folders.setdefault(above + slash, len(folders)))
        names.append(name)
    found = {"folders": list(folders), "folder": folder, "names": names}
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode()


def _facts(run: Run, table: pa.Table, pictures: PictureFacts, *, served: bool) -> dict[str, Any]:
    settings = run.settings
    name = run.path.resolve().name
    return {
        "title": f"{name}: {method_facts(settings, {}).title} on {Path(str(settings.get('images'))).name}",
        "run": name,
        "file_name": short_name(name, "edits-.json").removesuffix("edits-.json"),
        "served": served,
        "count": table.num_rows,
        "likely": _matrix(table, "class").shape[1],
        "near": _matrix(table, "neighbours").shape[1],
        "labels": _labels(table),
        "findings": _findings(run, table),
        "pictures": pictures.side > 0,
        "sheets": {
            "side": pictures.side,
            "kind": pictures.kind,
            "columns": pictures.columns,
            "perSheet": pictures.columns**2,
        },
    }


def _findings(run: Run, table: pa.Table) -> dict[int, str]:
    """Return what `gemel check` says of an image, by row."""
    found: dict[str, str] = {}
    for row in run.check_rows():
        if row["finding"] != UNREADABLE:
            found.setdefault(row["path"], row["finding"])
    return {row: found[path] for row, path in enumerate(table["path"].to_pylist()) if path in found} if found else {}


def _labels(table: pa.Table) -> list[str]:
    if "label" not in table.column_names:
        return []
    return sorted(label for label in table["label"].unique().to_pylist() if label is not None)[:NONE]


def _matrix(table: pa.Table, column: str) -> NDArray[Any]:
    """Return a column of lists of one length as (N, k)."""
    lists = table[column].combine_chunks()
    return lists.flatten().to_numpy().reshape(table.num_rows, -1)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _note(shown: int, images: int) -> str:
    if shown == images:
        return ""
    return f'<p class="part">{shown:,} of {images:,} images, spread over all of them; gemel explore shows all</p>'


def _json_block(name: str, value: Any) -> str:
    """Return JSON as an element that no text can end: `<` is written as an escape."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'
