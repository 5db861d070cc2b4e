"""Classes of any sizes, linked from small clusters, where classes of one size would cut through what lies together."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from gemel.methods.parts.joined_classes import joined
from gemel.metrics.clustering import silhouette
from gemel.samples import evenly_spread

COMPONENTS = 64
"""principal components of a network's features that are looked at"""

ROWS = 4096
"""of more images so many, evenly spread, are clustered; the others go with the nearest cluster"""

CLUSTERS, A_CLASS, A_CLUSTER = 100, 10, 5
"""clusters to begin with: at least so many in all, and for each class; images for each, at least"""

STARTS, MOVES = 4, 10
"""runs of k-means, of which the best classes are taken, and how often each moves its centres at most"""

TEMPERATURE = 0.2
"""τ of the likeness of two images, exp(cos / τ): near ones count for more than in a mean of cosines"""

APART = 0.1
"""silhouette of the first start's classes below which nothing lies together, as before anything is learned"""

CLEARLY = 0.015
"""by which the silhouette must be larger than that of classes of one size"""


def directions(features: Tensor) -> Tensor:
    """Return the principal components of a network's features, (N, at most `COMPONENTS`), in rows of unit length.

    Args:
        features: (N, d) of all images.

    Returns:
        NaN where a feature is not finite.
    """
    features = features.float().cpu()
    if not features.isfinite().all():
        return torch.full_like(features, torch.nan)  # of which `uneven_classes` makes nothing
    some = features[torch.from_numpy(evenly_spread(len(features), ROWS))]
    mean = some.mean(0)
    axes = torch.linalg.eigh((some - mean).T @ (some - mean))[1][:, -COMPONENTS:]
    return normalize((features - mean) @ axes, dim=1)


def uneven_classes(rows: Tensor, even: Tensor, classes: int) -> Tensor | None:
    """Return classes that are linked without regard to their sizes, (N,), if they lie clearly further apart.

    Clusters that k-means finds are joined down to C classes by the mean likeness of their images (`joined`). Of several
    starts the classes of the largest silhouette are taken, and compared with those of one size by it.

    Args:
        rows: of all images, (N, c); cosines are taken, so that each row has unit length.
        even: classes of one size, (N,).
        classes: C.

    Returns:
        None if classes of one size are as good, or images too few to tell.
    """
    sample = torch.from_numpy(evenly_spread(len(rows), ROWS))
    some, even = rows[sample], even[sample]
    if min(len(some.unique(dim=0)), len(some) // 2) < classes or len(even.unique()) < 2 or not some.isfinite().all():
        return None
    alike = likeness(some, some)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    apart: list[float] = []
    for start in range(STARTS):
        found.append(_linked(some, alike, classes, start))
        apart.append(silhouette(some, found[-1][2]))
        if apart[0] < APART:
            return None
    best = max(range(STARTS), key=lambda start: apart[start])
    if apart[best] < silhouette(some, even) + CLEARLY:
        return None
    centres, groups, _ = found[best]
    return torch.cat([groups[(part @ centres.T).argmax(1)] for part in rows.split(ROWS)])


def likeness(rows: Tensor, others: Tensor) -> Tensor:
    """Return exp(cos / τ) of each row with each of the others, (N, M); all of unit length."""
    return (rows @ others.T / TEMPERATURE).exp()


def _linked(rows: Tensor, alike: Tensor, classes: int, start: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the centres of clusters, in rows of unit length, the classes of these, and those of the rows."""
    from sklearn.cluster import KMeans  # a second or two to import

    clusters = min(max(CLUSTERS, A_CLASS * classes), max(classes, len(rows) // A_CLUSTER), len(rows.unique(dim=0)))
    model = cast(Any, KMeans)(clusters, n_init=1, max_iter=MOVES, random_state=start)
    members = one_hot(torch.from_numpy(model.fit_predict(rows.numpy())).long(), clusters).float()
    counts = members.sum(0)
    of_clusters = (members.T @ alike @ members) / counts.outer(counts)
    groups = torch.from_numpy(joined(of_clusters.numpy(), counts.numpy(), classes))
    return normalize(members.T @ rows, dim=1), groups, groups[members.argmax(1)]
