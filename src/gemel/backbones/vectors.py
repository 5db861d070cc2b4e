"""The backbone of heads on frozen features: vectors onto their principal components."""

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from gemel.backbones.base import Backbone
from gemel.samples import evenly_spread

_ROWS = 16_384
"""rows that are looked at together: vectors may be mapped from a file larger than memory"""

SAMPLE = 200_000
"""of more vectors so many, evenly spread, tell the components"""

LEAST = 0.01
"""share of the first component's standard deviation that every other one counts as at least"""

ROWS_EACH, FEWEST = 4, 8
"""vectors for each component that is kept, as the last ones of few vectors are chance; and how many are always kept"""


def worth(components: int | None, width: int, images: int) -> int:
    """Return how many components of so many vectors are worth keeping, at most `components`."""
    return min(width, components or width, max(FEWEST, images // ROWS_EACH))


def vectors(
    *,
    width: Annotated[int, Field(ge=1, le=1_000_000)] = 768,
    components: Annotated[int, Field(ge=1, le=65_536)] | None = 64,
    whitening: Annotated[float, Field(ge=0, le=1)] = 0.5,
) -> Backbone:
    """Return the projection of vectors (B, width) onto their principal components, (B, components).

    Args:
        width: numbers in a vector
        components: principal components that heads see; none: as many as the width
        whitening: power of its standard deviation by which a component is divided; 1: all have the same
    """
    kept = min(width, components or width)
    return Backbone(Components(width, kept, whitening), kept, in_channels=width)


class Components(nn.Module):
    """z_i = <x - μ, w_i> / (s_i^γ s_1^(1-γ)), so that the first component has a standard deviation of 1.

    μ is the mean of the vectors, w_i an eigenvector of their covariance, s_i the standard deviation along it, largest
    first.

    Args:
        width: d of the vectors.
        kept: components.
        whitening: γ; 0 keeps the proportions of the components, 1 takes them away.
    """

    def __init__(self, width: int, kept: int, whitening: float = 0.5) -> None:
        super().__init__()
        self.whitening = whitening
        self.mean: Tensor
        self.basis: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("basis", torch.eye(kept, width))

    def forward(self, rows: Tensor) -> Tensor:
        """Return (B, kept) of (B, d)."""
        return (rows.to(self.mean.dtype) - self.mean) @ self.basis.T

    @torch.no_grad()
    def fit(self, rows: Tensor) -> None:
        """Set μ and w from vectors (N, d), which may be mapped from a file; the same on every machine but for rounding.

        Each component points to where its largest entry is positive, so that no solver's choice of a sign is seen.
        """
        rows = rows[torch.from_numpy(evenly_spread(len(rows), SAMPLE))] if len(rows) > SAMPLE else rows
        width, kept = rows.shape[1], len(self.basis)
        mean = torch.stack([part.double().sum(0) for part in rows.split(_ROWS)]).sum(0) / len(rows)
        covariance = torch.zeros(width, width)
        for part in rows.split(_ROWS):
            centred = part.float() - mean.float()
            covariance.addmm_(centred.T, centred)
        covariance /= len(rows)
        if kept < width // 8:  # twice as many as are kept, so that the last ones are right too
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                basis = torch.svd_lowrank(covariance, 2 * kept, niter=8)[0][:, :kept]
        else:
            basis = torch.linalg.eigh(covariance.double()).eigenvectors.flip(1)[:, :kept].float()
        largest = basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
        spread = ((covariance @ basis) * basis).sum(0).clamp_min(0).sqrt()  # s
        spread = spread.clamp_min(float(LEAST * spread[0]) or 1.0)
        scale = spread**self.whitening * spread[0] ** (1 - self.whitening)
        self.basis.copy_((basis * largest / scale).T)
        self.mean.copy_(mean)


def fitted(backbone: Backbone, rows: Tensor) -> Tensor:
    """Fit a backbone of this file to vectors (N, d), and return what it makes of them, (N, components)."""
    network: Any = backbone.network
    network.fit(rows)
    with torch.no_grad():
        return torch.cat([network(part) for part in rows.split(_ROWS)])
