"""Work on all images that the processes share: each takes a part of the rows, all receive the same."""

import torch
from torch import Tensor

from gemel.distributed import mean_over_processes, rank, world_size


def share_of(rows: Tensor) -> Tensor:
    """Return this process's part of rows that every process holds; contiguous, by rank, equal but for one row."""
    return rows.tensor_split(world_size())[rank()]


@torch.no_grad()
def total(value: Tensor) -> Tensor:
    """Return the sum over the processes, the same bits on all of them."""
    return mean_over_processes(value) * world_size()


def sums_by_label(rows: Tensor, labels: Tensor, count: int) -> Tensor:
    """Return the sum of the rows of each label, (count, D), in float64; the same bits each time.

    Args:
        rows: (n, D).
        labels: (n,), 0..count-1.
        count: of labels.
    """
    found = torch.zeros(count, rows.shape[1], dtype=torch.float64, device=rows.device)
    if rows.device.type == "cpu":
        return found.index_add_(0, labels, rows.double())
    # On a GPU index_add_ adds in any order; this sorts first.
    return found.index_put_((labels,), rows.double(), accumulate=True)
