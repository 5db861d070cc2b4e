"""Silhouette: how much nearer images lie to their own class than to the next one; needs no label."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gemel.errors import UserError

CHUNK_BYTES = 2**24
"""distances that are held at a time"""


def silhouette(features: Tensor, classes: ArrayLike, *, sample: int | None = None, seed: int = 0) -> float:
    """Mean over images of s(i) = (b - a) / max(a, b), by Euclidean distances (Rousseeuw, 1987).

    a is the mean distance to the other images of i's class, b the smallest mean distance to another class;
    s(i) = 0 for an image alone in its class. All distances are looked at, some rows at a time: O(n²) time, not memory.

    Args:
        features: (n, D).
        classes: n integers, at least two different ones.
        sample: of more images this many, drawn without replacement, stand for all; None: all.
        seed: of the sample.

    Returns:
        -1..1; near 0 classes overlap.

    Raises:
        UserError: lengths that differ, or one class alone.

    >>> points = torch.tensor([[0.0], [1.0], [10.0], [11.0], [30.0]])
    >>> round(silhouette(points, [0, 0, 1, 1, 2]), 4)
    0.7198
    """
    return float(silhouettes(*_sampled(features, classes, sample, seed)).mean())


def silhouettes(features: Tensor, classes: ArrayLike) -> Tensor:
    """s(i) of each image, (n,) float64; see `silhouette`."""
    features, found = _sampled(features, classes, None, 0)
    _, numbers = np.unique(found, return_inverse=True)
    own = torch.from_numpy(numbers).to(features.device)  # (n,)
    sizes = own.bincount().double()  # (C,)
    if len(sizes) < 2:
        raise UserError("one class alone has no silhouette; give two or more")
    order = own.argsort(stable=True)  # a class's rows side by side: sums of slices, not scattered ones
    rows, kept = features.detach().double()[order], own[order]
    rows = rows - rows.mean(0)  # distances by products lose what an offset adds
    lengths = rows.square().sum(1)
    ends = sizes.cumsum(0).long()
    found_values = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    size = max(1, CHUNK_BYTES // (8 * len(rows)))
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        both = lengths[part, None] + lengths
        far = torch.addmm(both, rows[part], rows.T, alpha=-2)  # (chunk, n) squared
        far = far.masked_fill_(far < 1e-13 * both, 0).sqrt_()  # what is left of equal rows is rounding
        sums = torch.nn.functional.pad(far.cumsum(1), (1, 0))  # of the first 0, 1, ... n distances
        sums = (sums[:, ends] - sums[:, ends - sizes.long()]).clamp_min(0)  # (chunk, C)
        mine = kept[part, None]
        size_of_mine = sizes[mine[:, 0]]
        within = sums.gather(1, mine)[:, 0] / (size_of_mine - 1).clamp_min(1)
        nearest = (sums / sizes).scatter(1, mine, torch.inf).amin(1)
        value = (nearest - within) / torch.maximum(nearest, within).clamp_min(torch.finfo(torch.float64).tiny)
        found_values[part] = value.masked_fill(size_of_mine == 1, 0)
    return torch.empty_like(found_values).scatter_(0, order, found_values)


def _sampled(features: Tensor, classes: ArrayLike, sample: int | None, seed: int) -> tuple[Tensor, np.ndarray]:
    found = np.asarray(classes)
    if features.ndim != 2 or found.shape != (len(features),):
        raise UserError(f"{found.shape} classes for features {tuple(features.shape)}; give one class a row")
    if sample is None or len(found) <= sample:
        return features, found
    chosen = np.sort(np.random.default_rng(seed).choice(len(found), sample, replace=False))
    return features[torch.from_numpy(chosen)], found[chosen]
