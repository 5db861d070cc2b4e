"""Exact k-means over all images: Euclidean with faiss's rule for empty clusters, or spherical."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gemel.methods.parts.precision import pieces, widened
from gemel.methods.parts.whole_set import sums_by_label, total

SPLIT = 1 / 1024
"""how far the two centroids of a split cluster are moved apart, as a share of each coordinate"""


class Clusters(NamedTuple):
    """What k-means found."""

    centroids: Tensor
    """(K, D), the same on every process"""
    labels: Tensor
    """(n,) of this process's rows: the nearest of these centroids"""
    objective: list[float]
    """sum over all rows of the squared distance to the nearest centroid, at each assignment"""


@torch.no_grad()
def kmeans(rows: Tensor, start: Tensor, *, iterations: int, spherical: bool = False) -> Clusters:
    r"""Repeat a_i = argmin_k ‖x_i - c_k‖², c_k = mean of the x_i with a_i = k; then assign once more.

    Exact: every distance is computed, in pieces. Sums are in float64. It ends early where no row changes its cluster
    any more, which changes nothing.

    Args:
        rows: x, (n, D), this process's part of all rows; on the device that is to compute.
        start: c at first, (K, D), the same on every process.
        iterations: number of assignments followed by new means.
        spherical: a_i = argmax_k <x_i, c_k>, means are divided by their norm, and an empty cluster keeps its centroid
            (DeepCluster v2). Else it takes the centroid of another, drawn with a chance proportional to size - 1, and
            the two are moved apart by ± 1/1024 of their coordinates, in turns of sign (faiss, DeepCluster).
    """
    centroids, objective, labels = widened(start).clone(), list[float](), None
    for _ in range(iterations):
        found, away = _assign(rows, centroids, spherical)
        sizes = total(torch.bincount(found, minlength=len(centroids)).double()).round()
        objective.append(float(away))
        refills = not spherical and not bool((sizes > 0).all())
        if labels is not None and not refills and not bool(total((found != labels).sum().double())):
            return Clusters(centroids, found, objective)
        labels = found
        means = total(sums_by_label(rows, labels, len(centroids))) / sizes.clamp_min(1)[:, None]
        means = (normalize(means) if spherical else means).to(centroids.dtype)
        centroids = means.where(sizes[:, None] > 0, centroids)
        if refills:
            _fill_empty(centroids, sizes.cpu())
    found, away = _assign(rows, centroids, spherical)
    return Clusters(centroids, found, [*objective, float(away)])


def _assign(rows: Tensor, centroids: Tensor, spherical: bool) -> tuple[Tensor, Tensor]:
    """Return each row's nearest centroid, (n,), and the sum of squared distances over all processes' rows."""
    labels = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    best, squares = torch.zeros((), dtype=torch.float64, device=rows.device), centroids.square().sum(1)
    for part in pieces(len(rows), 4 * len(centroids), rows.device, least=256, caches=4):
        near = rows[part].to(centroids.dtype)
        # ‖x - c‖² = ‖x‖² - 2 (<x, c> - ½ ‖c‖²)
        scores = torch.addmm(squares, near, centroids.T, beta=0.0 if spherical else -0.5).max(1)
        labels[part] = scores.indices
        wide = near.double()
        best += wide.square().sum() - 2 * scores.values.double().sum()
        if spherical:  # the norms have no part in the scores
            best += squares.double()[scores.indices].sum()
    return labels, total(best).clamp_min(0)


def _fill_empty(centroids: Tensor, sizes: Tensor) -> None:
    """Split large clusters into the places of empty ones; `sizes`, (K,), is on the CPU and follows."""
    signs = torch.ones(centroids.shape[1], dtype=centroids.dtype, device=centroids.device)
    signs[1::2] = -1
    for empty in (sizes == 0).nonzero().flatten().tolist():
        chances = (sizes - 1).clamp_min(0)
        if not bool(chances.any()):
            return  # as many clusters as rows
        full = int(torch.multinomial(chances, 1))
        centroids[empty] = centroids[full] * (1 + SPLIT * signs)
        centroids[full] *= 1 - SPLIT * signs
        sizes[empty] = sizes[full] // 2
        sizes[full] -= sizes[empty]
