"""Published results: one row a number that a paper or a project's page prints, with where it was read.

Numbers are as printed: scores in per cent, epochs empty where the source does not state them. Where two sources print
different numbers of one thing, both rows stand.
"""

import csv
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).parent / "results.csv"


class Published(NamedTuple):
    """A printed number."""

    table: str
    method: str
    """with its form, as printed: `Barlow Twins batch 256`"""
    network: str
    epochs: int | None
    """None: not stated"""
    data: str
    metric: str
    """protocol and metric; what is special about them in brackets: `k-NN top1 (best epoch)`"""
    value: float
    source: str


@cache
def everything() -> tuple[Published, ...]:
    """Return all rows, in the file's order."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return tuple(_row(cells) for cells in csv.DictReader(file))


def rows(**wanted: Collection[str] | str | int | None) -> list[Published]:
    """Return the rows whose fields have the wanted values.

    >>> [row.value for row in rows(method="TWIST", metric="linear top1", network="ResNet-50", epochs=300)]
    [75.0]

    Args:
        **wanted: by field: one value, or several of which any will do.
    """

    def fits(row: Published) -> bool:
        for field, values in wanted.items():
            found = getattr(row, field)
            if not (found in values if isinstance(values, list | tuple | set) else found == values):
                return False
        return True

    return [row for row in everything() if fits(row)]


def form_of(printed: str, method: str) -> str | None:
    """Return the form of a method in a printed name; "" for the plain one, None for another method.

    >>> form_of("Barlow Twins batch 256", "barlow_twins"), form_of("TWIST", "twist"), form_of("MoCo v2+", "moco_v2")
    ('batch 256', '', None)
    >>> form_of("DeepCluster v2", "deepcluster") is None  # a version is another method
    True
    """
    own = method.lower().split("_")
    words = list(re.finditer(r"[a-z0-9+]+", printed.lower()))
    if [word.group() for word in words[: len(own)]] != own:
        return None
    if len(words) > len(own) and re.fullmatch(r"v\d\+?", words[len(own)].group()):
        return None
    form = printed[words[len(own) - 1].end() :].strip(" :")
    return form[1:-1] if form.startswith("(") and form.endswith(")") else form


def _row(cells: dict[str, str]) -> Published:
    epochs, value = cells.pop("epochs"), cells.pop("value")
    return Published(**cells, epochs=int(epochs) if epochs else None, value=float(value))
