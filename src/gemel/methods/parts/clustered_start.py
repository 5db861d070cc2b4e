"""Heads that begin where k-means ends, each with the clusters of another start of it."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gemel.distributed import mean_over_processes
from gemel.samples import evenly_spread

UNTIL = 0.25
"""progress up to which such heads learn their clusters; then the method's own loss takes over"""

STARTS, ROUNDS = 3, 30
"""of a run of k-means, and how often it moves its centres at most: a start need not be perfect"""

ROWS, ROWS_A_CLASS = 2000, 20
"""of more vectors so many, evenly spread, or so many for each class, are clustered"""

_PART = 65_536
"""vectors that are assigned to clusters together"""


def clusters(features: Tensor, classes: int, count: int) -> Tensor:
    """Return the clusters of vectors by several runs of k-means, (N, count) int32.

    Every other run gives columns of large spread more weight: of half-whitened components, as they were before.

    Args:
        features: (N, d).
        classes: clusters; of fewer vectors, or more copies, as many as there are different ones.
        count: runs, each of another seed.
    """
    from sklearn.cluster import KMeans  # a second or two to import

    features = features.float().cpu()
    spread, kmeans = features.std(0), cast(Any, KMeans)  # its types know no number of starts
    sample = features[torch.from_numpy(evenly_spread(len(features), max(ROWS, ROWS_A_CLASS * classes)))]
    distinct, found = len(sample.unique(dim=0)), list[Tensor]()  # of copies k-means finds no more clusters
    for seed in range(count):
        scale = spread if seed % 2 == 0 else torch.ones_like(spread)
        model = kmeans(min(classes, distinct), n_init=STARTS, max_iter=ROUNDS, random_state=seed).fit(
            (sample * scale).numpy()
        )
        parts = [torch.from_numpy(model.predict((part * scale).numpy())) for part in features.split(_PART)]
        found.append(torch.cat(parts).int())
    return torch.stack(found, 1)


def toward_clusters(losses: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the losses (H,) of heads, of which the last ones take the cross-entropy to their clusters.

    Args:
        losses: each head's own, (H,).
        logits: of a view, (n, H, C), this process's rows.
        labels: clusters by the last heads, (n, count).
    """
    count = labels.shape[1]
    own = logits[:, -count:]  # (n, count, C)
    found = cross_entropy(own.transpose(1, 2), labels.long(), reduction="none").mean(0)  # (count,)
    return torch.cat([losses[:-count], mean_over_processes(found)])
