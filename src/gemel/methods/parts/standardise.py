"""Columns standardised over the global batch, as Barlow Twins and its relatives do before their loss."""

from torch import Tensor

from gemel.distributed import mean_over_processes, world_size
from gemel.methods.parts.precision import widened

EPSILON = 1e-5
"""added to the variance, as batch norm does in the released code"""


def centre(rows: Tensor) -> Tensor:
    """Return z - μ by column over the global batch, (n, D); differentiable."""
    rows = widened(rows)
    centred = rows - mean_over_processes(rows.mean(0))
    return centred - mean_over_processes(centred.mean(0))  # what rounding left of the mean


def standardise(rows: Tensor) -> Tensor:
    """Return (z - μ) / √(σ² + 1e-5) by column over the global batch, (n, D), σ² biased; differentiable."""
    centred = centre(rows)
    variance = mean_over_processes(centred.square().mean(0))
    return centred * (variance + EPSILON).rsqrt()


def standardise_fixed(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same without a graph, for kernels with their own backward.

    Args:
        rows: (n, D), this process's.

    Returns:
        Z (n, D), μ (D,) and 1/√(σ² + 1e-5) (D,), in float32 or wider.
    """
    rows = widened(rows)
    origin = rows[0]  # close enough to the mean to lose no digits, and a constant column becomes exactly 0
    z = rows - origin
    mean = z.mean(0)
    if world_size() > 1:
        common = mean_over_processes(origin)
        away = origin - common
        origin, mean = common, mean_over_processes(away + mean)
        z += away
    z -= mean
    scale = mean_over_processes(z.square().mean(0)).add_(EPSILON).rsqrt_()
    z *= scale
    return z, origin + mean, scale
