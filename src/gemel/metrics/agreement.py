"""Which of several encoders is the best one, without labels: the one whose neighbours agree on what all of them see."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gemel.errors import UserError
from gemel.samples import evenly_spread

NEAREST = 5
"""neighbours that make an edge of the common graph; all that are given vote"""

KINDS = (5, 10, 20, 40)
"""numbers of kinds that the common graph is divided into: how many there are is not known"""

A_KIND = 10
"""images of a kind in the mean, at least: fewer kinds are looked for among few images"""

LANDMARKS = 2000
"""of more images the common graph is divided among so many, evenly spread, which stand for those around them"""

ROUNDS = 100
"""of the power iteration that weighs the encoders"""


def agreement(near: Sequence[NDArray[np.int64]], *, seed: int = 0) -> NDArray[np.float64]:
    """Return how well the neighbours that each encoder finds agree with the kinds that all encoders together see.

    o_ef is the share of common neighbours of encoders e and f, beyond chance; w the principal direction of o, so that
    encoders count that agree with others which count. The kinds y are those of the graph Σ_e w_e² (A_e + A_eᵀ), A_e
    the nearest neighbours, by spectral clustering into 5, 10, 20 and 40. The score is the mean share of images whose
    kind wins the vote of their neighbours by e: as a k-NN accuracy, with these kinds in place of labels. It ranks
    encoders of the same images; scores of different sets of encoders do not compare. `benchmarks/judges.py` sets it
    beside RankMe, LiDAR, α-ReQ and the silhouette.

    Args:
        near: of each encoder (N, k) rows of each image's nearest neighbours, nearest first; the images are the same.
        seed: of the clustering.

    Returns:
        (E,) from 0 to 1.

    Raises:
        UserError: fewer than two encoders, or arrays of different lengths.
    """
    if len(near) < 2 or len({len(one) for one in near}) > 1 or min(one.size for one in near) == 0:
        told = ", ".join(str(one.shape) for one in near)
        raise UserError(
            f"neighbours of shapes {told or 'none'}; give those of two encoders or more, of the same images"
        )
    found = [_votes(near, kinds) for kinds in _kinds(_common(near), seed)]
    return np.mean(found, axis=0)


def _common(near: Sequence[NDArray[np.int64]]) -> Any:
    """Return the common graph, symmetric, (N, N) sparse."""
    from scipy.sparse import csr_matrix

    total = len(near[0])
    graphs: list[Any] = []
    for one in near:
        first = one[:, :NEAREST]
        ends = np.arange(0, first.size + 1, first.shape[1])
        graphs.append(csr_matrix((np.ones(first.size), first.ravel(), ends), (total, total)))
    common: Any = sum(weight**2 * graph for weight, graph in zip(_weights(graphs), graphs, strict=True))
    return (common + common.T).tocsr()


def _weights(graphs: Sequence[Any]) -> NDArray[np.float64]:
    """Return how much each encoder counts, (E,), sum 1."""
    count = len(graphs)
    shares = np.array([[one.multiply(other).sum() / one.nnz for other in graphs] for one in graphs])
    chance = graphs[0].nnz / graphs[0].shape[0] ** 2
    shares = (shares - chance).clip(0)
    np.fill_diagonal(shares, 0)
    weights = np.full(count, 1 / count)
    for _ in range(ROUNDS if shares.any() else 0):
        weights = (weights + shares @ weights / (shares @ weights).sum()) / 2  # half: of two encoders it would swing
    return weights


def _kinds(common: Any, seed: int) -> list[NDArray[np.int64]]:
    """Return each image's kind for each number of kinds, (N,); -1 where no landmark is near."""
    from scipy.linalg import eigh
    from scipy.sparse import diags, identity
    from sklearn.cluster import KMeans

    total = common.shape[0]
    chosen = evenly_spread(total, LANDMARKS)
    reached: Any = identity(total, format="csr")
    if len(chosen) < total:
        steps = diags(1 / np.asarray(common.sum(1)).ravel()) @ common
        reached = (steps[:, chosen] + steps @ steps[:, chosen]).tocsr()
        common = reached.T @ common @ reached
    sums = np.asarray(common.sum(1)).ravel()
    scale = diags(1 / np.sqrt(np.maximum(sums, 1e-12)))
    sizes = sorted({max(2, min(size, len(chosen) // A_KIND)) for size in KINDS})
    whole = (scale @ common @ scale).toarray()  # of landmarks alone: an iteration might not converge
    _, vectors = eigh(whole, subset_by_index=[len(chosen) - sizes[-1], len(chosen) - 1])
    vectors = vectors[:, ::-1]  # the largest first
    options: dict[str, Any] = {"n_init": 1, "random_state": seed}
    found: list[NDArray[np.int64]] = []
    for size in sizes:
        rows = vectors[:, :size] / np.maximum(np.linalg.norm(vectors[:, :size], axis=1, keepdims=True), 1e-12)
        kinds = KMeans(size, **options).fit_predict(rows)
        votes = np.asarray(reached @ np.eye(size)[kinds])
        found.append(np.where(votes.any(1), votes.argmax(1), -1))
    return found


def _votes(near: Sequence[NDArray[np.int64]], kinds: NDArray[np.int64]) -> list[float]:
    """Return for each encoder the share of images whose kind most of their neighbours have."""
    known = kinds >= 0
    found: list[float] = []
    for one in near:
        votes = np.zeros((len(kinds), kinds.max() + 2), np.int32)  # the last column is of unknown ones
        np.add.at(votes, (np.repeat(np.arange(len(one)), one.shape[1]), kinds[one].ravel()), 1)
        found.append(float((votes[:, :-1].argmax(1) == kinds)[known].mean()))
    return found
