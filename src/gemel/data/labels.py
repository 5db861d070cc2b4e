"""Labels of images from the names of folders or from a CSV file; evaluations alone look at them."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gemel.data.listing import printable
from gemel.errors import UserError

Labelled = tuple[NDArray[np.int64], list[str]]
"""Labels (N,), -1 where unknown, and what each is called."""


def by_folder(paths: Iterable[str], name: str) -> Labelled:
    """The first folder of each relative path is the label; -1 for images without one. Names are sorted.

    Raises:
        UserError: no image lies in a folder.
    """
    found = [_first_folder(path) for path in paths]
    names = sorted(set(found) - {""})
    if not names:
        raise UserError(f"labels 'folders': no image of {printable(name)} lies in a folder below it")
    return _numbered(found, names)


def by_table(file: str, paths: Iterable[str], folders: Sequence[str]) -> Labelled:
    """Labels from a CSV file with the columns `path` and `label`; others are passed over.

    An empty label, -1 and a missing row all mean unknown. Names are sorted, as numbers if all of them are. Where every
    image has its row, rows of others are passed over: one table may serve a set for training and one for testing.

    Args:
        file: the CSV file.
        paths: of the images.
        folders: where a path of the file may begin; what the first one gives goes first.

    Raises:
        UserError: no such columns, no label at all, one image with two labels, or paths of no image beside images
            without a row.
    """
    rows = _rows(file)
    meant: dict[str, str] = {}
    for folder in folders:
        for row in rows:
            meant.setdefault(os.path.normpath(Path(folder) / row), row)
    own = [meant.get(os.path.normpath(path)) for path in paths]
    strangers = set(rows).difference(own)
    if strangers and None in own:
        first = "; ".join(printable(path) for path in sorted(strangers)[:5])
        raise UserError(
            f"{len(strangers)} of the {len(rows)} paths in {printable(file)} belong to no image: {first}"
            f"{' ...' if len(strangers) > 5 else ''}; write paths relative to the folder of images, to the working "
            "folder or to the table, or in full"
        )
    found = ["" if row is None else rows[row] for row in own]
    names = set(found) - {""}
    if not names:
        raise UserError(f"the labels {printable(file)} hold no label")
    is_number = all(name.isdecimal() for name in names)
    return _numbered(found, sorted(names, key=lambda name: (int(name) if is_number else 0, name)))


def _numbered(found: Sequence[str], names: list[str]) -> Labelled:
    number = {name: label for label, name in enumerate(names)}
    labels = np.array([number.get(name, -1) for name in found], np.int64)
    return labels, [printable(name) for name in names]


def _first_folder(path: str) -> str:
    """Empty where there is none: a file directly in the folder, an absolute path, one that leaves the folder."""
    first, separator, _ = os.path.normpath(path).partition(os.sep)
    return first if separator and first != os.pardir else ""


def _rows(file: str) -> dict[str, str]:
    rows: dict[str, str] = {}
    twice: list[str] = []
    try:
        # The byte mark of Windows' editors is no part of the header, and a path need not be UTF-8.
        with Path(file).open(newline="", encoding="utf-8-sig", errors="surrogateescape") as lines:
            table = csv.DictReader(lines, skipinitialspace=True)
            columns = {(column or "").strip().lower(): column for column in table.fieldnames or []}
            if not {"path", "label"} <= columns.keys():
                header = printable(",".join(table.fieldnames or []))[:100]
                raise UserError(f"the labels {printable(file)} start with {header!r}; the header must be path,label")
            for row in table:
                path = os.path.normpath((row[columns["path"]] or "").strip())
                label = (row[columns["label"]] or "").strip()
                if rows.setdefault(path, label) != label:
                    twice.append(path)
    except (OSError, csv.Error) as error:
        raise UserError(f"the labels {printable(file)} cannot be read: {error}") from error
    if twice:
        raise UserError(f"{printable(file)} gives {len(twice)} paths two labels, the first: {printable(twice[0])}")
    rows.pop(os.curdir, None)  # a row without a path
    return {path: "" if label == "-1" else label for path, label in rows.items()}
