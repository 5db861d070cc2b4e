"""Which images are unlike any that a run has learned from: its classes say nothing of them."""

import zipfile
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from gemel.errors import UserError
from gemel.evaluations.features import CHUNK, Seen
from gemel.metrics.outliers import neighbour_distance
from gemel.runs.files import write_atomically
from gemel.runs.run import FAMILIAR, Run

NUMBERS, ROWS = 2**21, 8192
"""in the features that are kept of a run's images, evenly spread: 4 MB; and of how many images at most"""

NEIGHBOUR = 5
"""an image is unlike the others where so many nearest of them are all far"""

USUAL = 0.99
"""share of the run's own images that count as like the others"""


class Familiar(NamedTuple):
    """What an image is compared with: features x / |x|."""

    rows: Tensor
    """(n, width) of images of the run"""
    limit: float
    """distance to the `NEIGHBOUR`-th nearest row above which an image is unlike all of them"""

    def is_unlike(self, features: Tensor) -> Tensor:
        """Tell which features (N, width) are far from all rows, (N,) bool."""
        found: list[Tensor] = []
        for part in features.split(CHUNK):
            distances = torch.cdist(normalize(part.float()), self.rows)
            found.append(distances.kthvalue(NEIGHBOUR, dim=1).values > self.limit)
        return torch.cat(found)


def write_familiar(run: Run, seen: Seen) -> None:
    """Keep what images are compared with; of fewer than ten nothing is usual, and nothing is kept."""
    count = min(len(seen.features), ROWS, max(1000, NUMBERS // seen.features.shape[1]))
    if count < 2 * NEIGHBOUR:
        return
    chosen = torch.linspace(0, len(seen.features) - 1, count).round().long().unique()
    rows = normalize(seen.features[chosen].float())
    limit = float(neighbour_distance(rows, NEIGHBOUR).quantile(USUAL))

    def write(temporary: Any) -> None:
        with temporary.open("wb") as file:
            np.savez(file, rows=rows.half().numpy(), limit=np.float64(limit))

    write_atomically(run.path / FAMILIAR, write)


def read_familiar(run: Run) -> Familiar | None:
    """Return what images are compared with; None of a run that has none.

    Raises:
        UserError: the file is damaged.
    """
    path = run.path / FAMILIAR
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return Familiar(torch.from_numpy(arrays["rows"]).float(), float(arrays["limit"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}); delete it: images are then not marked") from error
