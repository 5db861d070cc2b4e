"""Where images lie on the map: alike ones near each other.

UMAP's attraction along an exact graph of neighbours, and repulsion from random images (McInnes, Healy and Melville,
arXiv 1802.03426), with the heavy-tailed kernel of t-SNE, which needs no power, started from the two main directions
of the features; then images are moved apart (`spread`). `benchmarks/layouts.py` sets it beside UMAP, openTSNE and
PaCMAP: ten times as fast and more, without their packages, and nearly as trustworthy. The same features give the same
map.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from torch import Tensor

from gemel.data.compiled import compiled
from gemel.evaluations.image_map.spread import spread, to_unit
from gemel.metrics.neighbours import nearest

NEIGHBOURS = 15
"""of an image that attract it"""
REPELLED = 5
"""random images that push an image away for each that attracts it"""
LANDMARKS = 20_000
"""images that are laid out together; of more, the others lie among their nearest landmarks"""
WIDTH = 64
"""of the features that images are compared by: their main directions"""
SPAN = 10.0
"""half the side of the square that the layout starts in"""
STEEPEST = 4.0
"""largest step of an image along one axis"""


def main_directions(features: Tensor, width: int = WIDTH) -> Tensor:
    """Return features (N, D) as (N, min(D, width)) float32 that keep most of the cosines between them.

    The projection on the first singular vectors, of rows of length one; they are not centred, since that would change
    which image is near which.
    """
    rows = torch.nn.functional.normalize(features.float(), dim=1)
    if rows.shape[1] <= width:
        return rows
    _, vectors = torch.linalg.eigh((rows.T @ rows).double())
    return rows @ vectors[:, -width:].flip(1).float()


def layout(features: Tensor, neighbours: tuple[Tensor, Tensor], seed: int = 0) -> NDArray[np.float32]:
    """Return the place of each image, (N, 2), both axes from 0 to 1 of one scale.

    Args:
        features: (N, D), as `main_directions` gives them.
        neighbours: similarities and rows of each image's nearest ones, (N, k) each, best first, without itself.
        seed: of the images that push each other away.
    """
    count = len(features)
    if count < 4:
        return np.stack([np.linspace(0, 1, count + 2)[1:-1], np.full(count, 0.5)], 1).astype(np.float32)
    chosen = np.arange(count)
    if count > LANDMARKS:
        chosen = np.sort(np.random.default_rng(seed).choice(count, LANDMARKS, replace=False))
        rows = features[torch.from_numpy(chosen)]
        neighbours = nearest(rows, rows, NEIGHBOURS, leave_one_out=True)
    places = _start(features[torch.from_numpy(chosen)])
    heads, tails, periods = _graph(*neighbours)
    epochs = 200 if len(chosen) > 10_000 else 250
    _descend(places, heads, tails, periods, epochs, REPELLED, STEEPEST, seed + 1)
    return spread(to_unit(places if len(chosen) == count else _among(features, chosen, places)))


def _start(features: Tensor) -> NDArray[np.float64]:
    """Return the two main directions of the centred features, (N, 2), within the starting square."""
    centred = features.double() - features.double().mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    vectors = vectors[:, -2:].flip(1)
    signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()  # of an eigenvector either is right
    places = (centred @ (vectors * signs)).numpy()
    if places.shape[1] < 2:
        places = np.concatenate([places, np.zeros_like(places)], 1)
    # images that are equal start apart: nothing would ever part them
    noise = np.random.default_rng(0).normal(0, 1e-3 * SPAN, places.shape)
    return SPAN * places / max(np.abs(places).max(), 1e-12) + noise


def _graph(similarity: Tensor, index: Tensor) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Return the edges (i, j) of the symmetric graph, and every how many epochs each of them attracts.

    w_ij = exp(-(d_ij - rho_i) / sigma_i), d = 1 - cosine, rho_i the smallest d_ij, sigma_i such that the weights of an
    image sum to log2 k; w becomes w + w' - w w', and an edge is drawn in proportion to it.
    """
    count, k = len(index), min(NEIGHBOURS, index.shape[1])
    distances = (1 - similarity[:, :k].double()).clamp_min(0).numpy()
    excess = distances - distances[:, :1]
    low, high = np.full(count, 1e-9), np.full(count, 4.0)
    for _ in range(40):
        middle = np.sqrt(low * high)  # distances spread over magnitudes
        wide = np.exp(-excess / middle[:, None]).sum(1) > np.log2(max(k, 2))
        low, high = np.where(wide, low, middle), np.where(wide, middle, high)
    weights = np.exp(-excess / low[:, None])
    rows = np.repeat(np.arange(count), k)
    one_way = coo_matrix((weights.ravel(), (rows, index[:, :k].numpy().ravel())), shape=(count, count)).tocsr()
    other: Any = one_way.T.tocsr()
    edges: Any = (one_way + other - one_way.multiply(other)).tocoo()
    kept = edges.data > edges.data.max() / 400
    periods = edges.data.max() / edges.data[kept]
    return edges.row[kept].astype(np.int32), edges.col[kept].astype(np.int32), periods


@compiled()
def _descend(
    places: NDArray[np.float64],
    heads: NDArray[np.int32],
    tails: NDArray[np.int32],
    periods: NDArray[np.float64],
    epochs: int,
    repelled: int,
    steepest: float,
    seed: int,
) -> None:
    """Move images, edge by edge: log q attracts, log(1 - q) repels, q = 1 / (1 + |x_i - x_j|²)."""
    count = np.uint64(len(places))
    state = np.uint64(seed)
    due = periods.copy()
    for epoch in range(1, epochs + 1):
        rate = 1.0 - (epoch - 1) / epochs
        for edge in range(len(heads)):
            if due[edge] > epoch:
                continue
            due[edge] += periods[edge]
            one, other = heads[edge], tails[edge]
            x, y = places[one, 0] - places[other, 0], places[one, 1] - places[other, 1]
            pull = -2.0 / (1.0 + x * x + y * y)
            x, y = rate * min(max(pull * x, -steepest), steepest), rate * min(max(pull * y, -steepest), steepest)
            places[one, 0] += x
            places[one, 1] += y
            places[other, 0] -= x
            places[other, 1] -= y
            for _ in range(repelled):
                # a Weyl sequence, mixed: Steele, Lea and Flood's SplitMix
                state += np.uint64(0x9E3779B97F4A7C15)
                mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                far = np.int64((mixed ^ (mixed >> np.uint64(31))) % count)
                if far == one:
                    continue
                x, y = places[one, 0] - places[far, 0], places[one, 1] - places[far, 1]
                squared = x * x + y * y
                push = 2.0 / ((0.001 + squared) * (1.0 + squared))
                places[one, 0] += rate * min(max(push * x, -steepest), steepest)
                places[one, 1] += rate * min(max(push * y, -steepest), steepest)


def _among(features: Tensor, chosen: NDArray[np.int64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place all images (N, D) among landmarks: at the mean of the three nearest, the nearest counting most."""
    similarity, index = nearest(features, features[torch.from_numpy(chosen)], 3)
    shares = torch.softmax(similarity.double() * 50, dim=1).numpy()
    among = (places[index.numpy()] * shares[:, :, None]).sum(1)
    spread = np.linalg.norm(places[index[:, 0].numpy()] - places[index[:, 1].numpy()], axis=1, keepdims=True)
    # images with the same landmarks lie around their place, not on one another
    among += np.random.default_rng(0).normal(0, 0.2, among.shape) * np.minimum(spread, 0.5)
    among[chosen] = places
    return among
