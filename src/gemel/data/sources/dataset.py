"""Datasets by name."""

from typing import Any

from gemel.data.messages import nothing_of_that_name
from gemel.data.sources.arrays import ArraySource
from gemel.data.sources.base import Source
from gemel.errors import UserError


def open_dataset(given: Any) -> Source | None:
    """Return the images of a dataset, with its own labels.

    Raises:
        UserError: there is no dataset of that name, or it cannot be downloaded.
    """
    if not isinstance(given, str):
        return None
    from gemel.data import datasets  # the only way to datasets' imports; folders do without

    named = datasets.find(given)
    if named is None:
        raise UserError(nothing_of_that_name(given, datasets.available()))
    loaded = datasets.load(*named)
    return ArraySource(
        loaded.name,
        loaded.images,
        loaded.file,
        labels=loaded.labels,
        label_names=loaded.label_names if loaded.labels is not None else [],
        stated_classes=loaded.classes,
    )
