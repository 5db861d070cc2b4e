"""Folders that hold packed images: webdataset's shards, Hugging Face datasets, LMDB."""

# as in folder.py: a name need not be text
# ruff: noqa: PTH113, PTH118
import os
from collections import Counter

from gemel.data.listing import printable
from gemel.data.sources.archive import archive_source
from gemel.data.sources.base import Source
from gemel.data.sources.lmdb import DATA, lmdb_source
from gemel.data.sources.rows import DICTIONARY, splits_of, table_source
from gemel.data.sources.rows import ENDINGS as TABLES
from gemel.errors import UserError


def open_packed(given: str, kinds: Counter[str], *, rescan: bool) -> Source | None:
    """Return the images that the files of a folder without images hold; None if they hold none.

    Args:
        given: the folder.
        kinds: how many files of each ending there are.
        rescan: look for the members of archives again.

    Raises:
        UserError: several splits of a dataset, or files that are damaged.
    """
    if os.path.isfile(os.path.join(given, DICTIONARY)):
        raise UserError(f"{printable(given)} holds several splits; give one of them: {', '.join(splits_of(given))}")
    if os.path.isfile(os.path.join(given, DATA)):
        return lmdb_source(given, os.path.join(given, DATA), rescan=rescan)
    for ending in (".tar", ".zip"):
        if kinds[ending]:
            return archive_source(given, _files(given, (ending,)), rescan=rescan)
    if any(kinds[ending] for ending in TABLES):
        return table_source(given, _files(given, TABLES))
    return None


def _files(folder: str, endings: tuple[str, ...]) -> list[str]:
    """Return the files below a folder with these endings, sorted by path."""
    found = [
        os.path.join(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(endings) and not name.startswith(".")
    ]
    return sorted(found)
