"""Labels of images from the names of folders, from a CSV file or from a list; only evaluations look at them."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemel.data.listing import printable
from gemel.errors import UserError
from gemel.text_files import composed, read_table, shortened

Labelled = tuple[NDArray[np.int64], list[str]]
"""Labels (N,), -1 where unknown, and the name of each."""

UNKNOWN = frozenset(
    {"", "-1", "-1.0", "#N/A", "#NA", "-NaN", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)
"""cells that mean that the label is unknown: what pandas reads or writes so, and -1"""


def by_folder(paths: Iterable[str], name: str) -> Labelled:
    """Return the first folder of each relative path as its label; -1 for images without one. Names are sorted.

    Raises:
        UserError: no image lies in a folder.
    """
    labels = [composed(_first_folder(path)) for path in paths]
    if not any(labels):
        raise UserError(f"labels 'folders': no image of {printable(name)} lies in a folder below it")
    return _numbered(labels, sorted(set(labels) - {""}))


def by_table(file: str, paths: Iterable[str], folders: Sequence[str]) -> Labelled:
    """Return the labels that a CSV file with the columns `path` and `label` gives; other columns are ignored.

    `UNKNOWN` cells and missing rows mean unknown. Where every image has its row, rows of others are ignored: one table
    may serve a training set and a test set. A path that no image has as it is written is compared again with \\ as /
    and with letters composed.

    Args:
        file: the CSV file.
        paths: of the images.
        folders: that a path of the file may be relative to; the first one has precedence.

    Raises:
        UserError: no such columns, no label at all, one image with two labels, or paths of no image beside images
            without a row.
    """
    rows = _rows(file)
    wanted = [os.path.normpath(path) for path in paths]
    meant = _placed({row: row for row in rows}, folders)
    found = [meant.get(path) for path in wanted]
    if None in found and (left := set(rows).difference(found)):
        respelled = _placed({composed(row.replace("\\", "/")): row for row in left}, folders)
        respelled = {composed(path): row for path, row in respelled.items()}
        found = [
            row if row is not None else respelled.get(composed(path)) for path, row in zip(wanted, found, strict=True)
        ]
        strangers = sorted(left.difference(found))
        if strangers and None in found:
            slashes = " (\\ was tried as / too)" if any("\\" in path for path in strangers) else ""
            raise UserError(
                f"{len(strangers)} of the {len(rows)} paths in {printable(file)} belong to no image: "
                f"{shortened(strangers)}{slashes}; write paths relative to the folder of images, to the working folder "
                "or to the table, or in full"
            )
    labels = ["" if row is None else rows[row] for row in found]
    if all(label in UNKNOWN for label in labels):
        raise UserError(f"the labels {printable(file)} hold no label")
    return by_values(labels)


def by_values(values: Iterable[str]) -> Labelled:
    """Return labels from one name for each image; names are sorted, as numbers if all of them are.

    Whole numbers written as floats, as pandas writes them where some are unknown, are read as whole numbers.

    >>> by_values(["1.0", "NaN", "0.0"])
    (array([ 1, -1,  0]), ['0', '1'])
    """
    cells = ["" if value in UNKNOWN else composed(value) for value in values]
    if all(re.fullmatch(r"([+-]?\d+(\.0*)?)?", cell) for cell in cells):
        cells = [cell.partition(".")[0] for cell in cells]
    names = set(cells) - {""}
    are_numbers = all(name.isdecimal() and len(name) < 19 for name in names)
    return _numbered(cells, sorted(names, key=lambda name: (int(name) if are_numbers else 0, name)))


def _numbered(cells: Sequence[str], names: list[str]) -> Labelled:
    number = {name: label for label, name in enumerate(names)}
    labels = np.array([number.get(cell, -1) for cell in cells], np.int64)
    return labels, [printable(name) for name in names]


def _first_folder(path: str) -> str:
    """Empty where there is none: a file directly in the folder, an absolute path, one that leaves the folder."""
    first, separator, _ = os.path.normpath(path).partition(os.sep)
    return first if separator and first != os.pardir else ""


def _placed(rows: Mapping[str, str], folders: Sequence[str]) -> dict[str, str]:
    """Return each path that a row's spelling may mean, and the row; the first folder has precedence."""
    meant: dict[str, str] = {}
    for folder in folders:
        for spelling, row in rows.items():
            meant.setdefault(os.path.normpath(Path(folder) / spelling), row)
    return meant


def _rows(file: str) -> dict[str, str]:
    rows: dict[str, str] = {}
    twice: list[str] = []
    for row in read_table(file, ["path", "label"]):
        path = os.path.normpath(row.cells["path"])
        if path != os.curdir and rows.setdefault(path, row.cells["label"]) != row.cells["label"]:
            twice.append(f"line {row.line}: {path}")
    if twice:
        raise UserError(f"{printable(file)} gives {len(twice)} paths two labels: {shortened(twice)}")
    return rows
