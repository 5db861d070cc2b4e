"""PCA with whitening over all images, as DeepCluster has before its k-means."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gemel.methods.parts.precision import pieces
from gemel.methods.parts.whole_set import total


class Whitening(NamedTuple):
    """PCA with whitening, then rows of norm 1."""

    mean: Tensor
    """(D,)"""
    axes: Tensor
    """(D, d), eigenvectors of the covariance divided by the root of their eigenvalue"""

    @classmethod
    @torch.no_grad()
    def of(cls, rows: Tensor, dimensions: int) -> "Whitening":
        """Return that of all rows, of which (n, D) are this process's; sums in float64. Axes of no variance are 0."""
        count = total(torch.tensor(float(len(rows)), dtype=torch.float64, device=rows.device))
        sums = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
        parts = list(pieces(len(rows), 8 * rows.shape[1], rows.device, least=4096))
        for part in parts:
            sums += rows[part].double().sum(0)
        mean, squares = total(sums) / count, sums.new_zeros(len(sums), len(sums))
        for part in parts:
            away = rows[part].double() - mean
            squares += away.T @ away
        covariance = total(squares) / count
        values, vectors = torch.linalg.eigh(covariance)
        values, vectors = values[-dimensions:], vectors[:, -dimensions:]
        scales = values.clamp_min(0).rsqrt().where(values > 1e-12 * values[-1], torch.zeros_like(values))
        return cls(mean.to(rows.dtype), (vectors * scales).to(rows.dtype))

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the whitened rows, (n, d), of norm 1."""
        return normalize((rows - self.mean) @ self.axes)
