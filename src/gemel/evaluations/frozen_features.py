"""Features of a frozen network, in the user's cache: heads are trained on them, and another run finds them there."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gemel.data.sources import Source, VectorSource
from gemel.engine.processes import by_the_first
from gemel.evaluations.base import Progress, frozen_subject
from gemel.evaluations.features import see

KEPT_BYTES = 10_000_000_000
"""of features in the user's cache, beside the newest"""


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
    subject = frozen_subject(network, facts)
    seen = see(subject, source, tell=tell)
    by_the_first(lambda: prune(subject.folder.parent))
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


def prune(folder: Path, most: int = KEPT_BYTES) -> None:
    """Delete passes of frozen networks, the oldest first, until the others take at most `most` bytes; one stays.

    Args:
        folder: that of all frozen networks in the user's cache.
        most: bytes.
    """
    left = most
    passes = [(done.stat().st_mtime, done.parent) for done in folder.glob("*/cache/features/*/done.json")]
    for number, (_, path) in enumerate(sorted(passes, reverse=True)):
        with suppress(OSError):  # another process prunes, too, or reads: then the next command does it
            left -= sum(file.stat().st_size for file in path.iterdir())
            if number and left < 0:
                shutil.rmtree(path)
