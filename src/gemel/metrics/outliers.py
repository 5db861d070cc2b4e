"""Rows unlike any other: far from their k-th nearest neighbour."""

import torch
from torch import Tensor

from gemel.errors import UserError
from gemel.metrics.rows import checked_rows

CHUNK_BYTES = 2**27
"""distances that are held at a time"""


def neighbour_distance(rows: Tensor, k: int) -> Tensor:
    """Return the Euclidean distance of each row to its k-th nearest other row: d_i = |x_i - x_(k)|.

    Exact, in n² D operations and O(n) memory.

    Args:
        rows: (n, D), any floating type.
        k: 1..n-1.

    Returns:
        (n,) float64.

    Raises:
        UserError: another shape, k out of range, or rows that are not finite.

    >>> neighbour_distance(torch.tensor([[0.0], [1.0], [3.0]]), 1).tolist()
    [1.0, 1.0, 2.0]
    """
    checked_rows(rows[:1] if rows.ndim == 2 else rows)
    if not 1 <= k < len(rows):
        raise UserError(f"neighbour {k} of {len(rows)} rows; k must be 1 to {len(rows) - 1}")
    if not bool(rows.isfinite().all()):
        raise UserError("the features hold NaN or infinite values")
    rows = rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
    rows = rows - rows.mean(0)  # of features far from the origin, squares would swallow the distances
    found: list[Tensor] = []
    widest = max(len(rows), (k + 1) * rows.shape[1])
    for part in rows.split(max(1, CHUNK_BYTES // (rows.element_size() * widest))):
        near = torch.cdist(part, rows, compute_mode="use_mm_for_euclid_dist").topk(k + 1, dim=1, largest=False)
        # the row itself is among them, at nearly nothing: |x|² + |y|² - 2xy of equal rows is a rounding error
        exact = (part[:, None] - rows[near.indices]).norm(dim=2)
        found.append(exact.sort(dim=1).values[:, k])
    return torch.cat(found).double()


def far_out(distances: Tensor, *, spreads: float = 5.0, least: float = 1.3) -> Tensor:
    """Tell which distances are far above the others, (n,): above the median by so many spreads, and `least` times it.

    The spread is the median absolute deviation times 1.4826, the standard deviation where they are normal. Where more
    than half of the rows are equal, nothing is far.

    Args:
        distances: (n,), at least 0.
        spreads: how far is far.
        least: where all are nearly the same, the spread alone would tell nothing.

    >>> far_out(torch.tensor([1.0, 1.1, 0.9, 1.0, 1.05, 5.0])).tolist()
    [False, False, False, False, False, True]
    """
    middle = distances.median()
    spread = 1.4826 * (distances - middle).abs().median()
    return (distances > middle + spreads * spread) & (distances > least * middle) & (middle > 0)
