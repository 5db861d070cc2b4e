"""Which images are unlike any that a run has learned from: its classes say nothing of them."""

import zipfile
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gemel.backbones.vectors import fitted, vectors
from gemel.errors import UserError
from gemel.evaluations.features import CHUNK, Seen
from gemel.metrics.outliers import limit_of, neighbour_distance
from gemel.runs.run import FAMILIAR, Run, write_atomically

SAMPLE = 5_000
"""images of the run that others are compared with, evenly spread"""

COMPONENTS = 64
"""principal components of the features by which they are compared"""

NEIGHBOUR = 5
"""an image is unlike the others where so many nearest of them are all far"""


class Familiar(NamedTuple):
    """What an image is compared with."""

    mean: Tensor
    basis: Tensor
    """(c, width): z = (x - mean) basisᵀ"""
    rows: Tensor
    """(n, c) of images of the run"""
    limit: float
    """distance to the `NEIGHBOUR`-th nearest row above which an image is unlike all of them"""

    def is_unlike(self, features: Tensor) -> Tensor:
        """Tell which features (N, width) are far from all rows, (N,) bool."""
        place = min(NEIGHBOUR, len(self.rows))
        found: list[Tensor] = []
        for part in features.split(CHUNK):
            z = (part.float() - self.mean) @ self.basis.T
            found.append(torch.cdist(z, self.rows).kthvalue(place, dim=1).values > self.limit)
        return torch.cat(found)


def write_familiar(run: Run, seen: Seen) -> None:
    """Keep what images are compared with; of fewer than ten nothing is typical, and nothing is kept."""
    features = seen.features
    if len(features) < 2 * NEIGHBOUR:
        return
    features = features[torch.linspace(0, len(features) - 1, min(len(features), SAMPLE)).round().long().unique()]
    network = vectors(width=features.shape[1], components=COMPONENTS, whitening=0.0)
    rows = fitted(network, features)
    limit = limit_of(neighbour_distance(rows, NEIGHBOUR))
    if limit == float("inf"):  # most images are the same
        return
    arrays: dict[str, Any] = {name: value.numpy() for name, value in network.network.state_dict().items()}
    arrays |= {"rows": rows.half().numpy(), "limit": np.float64(limit)}

    def write(temporary: Any) -> None:
        with temporary.open("wb") as file:
            np.savez(file, **arrays)

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
            mean, basis, rows = (torch.from_numpy(arrays[name]).float() for name in ("mean", "basis", "rows"))
            return Familiar(mean, basis, rows, float(arrays["limit"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}); delete it: images are then not marked") from error
