"""How well classes divide a graph of neighbours: a score of clusters that needs no labels."""

import torch
from torch import Tensor


def modularity(classes: Tensor, near: Tensor) -> float:
    """Return the share of edges within classes, beyond what classes of these sizes would have by chance.

    Q = Σ_k (e_kk - a_k²): e_kk is the share of edges within class k, a_k the share of ends of edges in it. At most
    1 - 1/C with C classes; 0 for one class. Source: Newman and Girvan, arXiv cond-mat/0308217.

    Args:
        classes: (N,) integers from 0.
        near: (N, k) each row's neighbours, N at least 2, k at least 1; an edge counts in both directions.

    >>> modularity(torch.tensor([0, 0, 1, 1]), torch.tensor([[1], [0], [3], [2]]))
    0.5
    """
    found = classes[near]
    count = int(classes.max()) + 1
    within = (found == classes[:, None]).double().mean()
    starts = torch.bincount(classes, minlength=count).double() / len(classes)
    ends = torch.bincount(found.flatten(), minlength=count).double() / found.numel()
    return float(within - ((starts + ends) / 2).square().sum())
