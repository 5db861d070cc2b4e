"""Data sets by name."""

from pathlib import Path

from gemel.data.messages import nothing_of_that_name
from gemel.data.sources.arrays import ArraySource
from gemel.data.sources.base import Source
from gemel.errors import UserError


def open_dataset(given: str, labels: str | Path | None) -> Source:
    """Open a data set by its name."""
    from gemel.data import datasets  # the only way to datasets' imports; folders do without

    named = datasets.find(given)
    if named is None:
        raise UserError(nothing_of_that_name(given, datasets.available()))
    found = datasets.load(*named)
    own = labels in (None, "own")
    return ArraySource(
        found.name,
        found.images,
        found.file,
        labels=found.labels if own else None,
        label_names=found.label_names if own and found.labels is not None else [],
        stated_classes=found.classes,
    )
