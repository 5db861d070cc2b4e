"""Random numbers of a step that are the same on however many processes: drawn for the global batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from gemel.distributed import from_first, rank, world_size


def noise_for(rows: Tensor, draw: Callable[..., Tensor] = torch.rand) -> Tensor:
    """Return random numbers of the shape, type and device of this process's rows, (n, ...).

    Every process draws for all rows, takes the first process's numbers, and keeps its own rows of them.

    Args:
        rows: whose shape is wanted; every process has as many.
        draw: torch.rand or torch.randn.
    """
    shape = (len(rows) * world_size(), *rows.shape[1:])
    whole = from_first(draw(shape, dtype=rows.dtype, device=rows.device))
    return whole[rank() * len(rows) :][: len(rows)]
