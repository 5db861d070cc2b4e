"""Features of a frozen network, in the user's cache: heads are trained on them, and another run finds them there."""

from typing import Any

import numpy as np
from torch import nn

from gemel.data.sources import Source, VectorSource
from gemel.evaluations.base import Progress, frozen_subject
from gemel.evaluations.features import see


def frozen_features(network: nn.Module, facts: dict[str, Any], source: Source, tell: Progress | None) -> VectorSource:
    """Return the features of all images as a source of vectors; an unreadable image takes those of the next one.

    Args:
        network: normalised floats (B, 3, H, W) to (B, width).
        facts: as in backbone.json.
        source: the images.
        tell: told after each batch.

    Raises:
        UserError: no image can be read.
    """
    seen = see(frozen_subject(network, facts), source, tell=tell)
    rows = None
    if len(seen.indices) < len(source):  # as the loader of images: the next readable one, after the last the first
        rows = np.searchsorted(seen.indices, np.arange(len(source))) % len(seen.indices)
    described: dict[str, Any] = {
        "labels": source.labels,
        "label_names": source.label_names,
        "stated_classes": source.stated_classes,
    }
    found = VectorSource(source.name, seen.features.numpy(), images=source, rows=rows, **described)
    found.rejected = seen.rejected
    return found
