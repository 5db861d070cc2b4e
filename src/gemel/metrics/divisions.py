"""How well a graph of neighbours divides into any number of classes: merged from many, settled at each number."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

ROUNDS = 8
"""of moving rows to better classes at each number, at most; most numbers are settled in three"""

SHARE = 0.5
"""of the rows that would be better off, so many move at a time: if all did, neighbours would swap their classes"""


def divisions(near: Tensor, start: Tensor, *, seed: int = 0) -> dict[int, float]:
    """Return the modularity Q of a good division by its number of classes, down to two.

    Rows move to the class for which Q gains most (Blondel et al., arXiv 0803.0476); then the two classes are merged for
    which Q gains most (Clauset, Newman and Moore, arXiv cond-mat/0408187); and so on. Q counts as `modularity` does. A
    number is missing where moves emptied a class; one class alone, with Q = 0, is all there is where none gains.

    Args:
        near: (N, k) each row's neighbours, N at least 2, k at least 1; an edge counts in both directions. Memory: 4·N²
            bytes.
        start: (N,) classes to begin with, many.
        seed: of the choice which rows move at a time.

    >>> divisions(torch.tensor([[1], [0], [3], [2]]), torch.arange(4))[2]
    0.5
    """
    graph, random = _Graph(near), torch.Generator().manual_seed(seed)
    found: dict[int, float] = {}
    classes = start
    while True:
        value, classes = graph.settled(_numbered(classes), random)
        classes = _numbered(classes)
        count = int(classes.max()) + 1
        found[count] = max(value, found.get(count, value))
        if count <= 2:
            return found
        classes = graph.merged(classes)


class _Graph:
    """Edges of a graph of neighbours, each in both directions.

    Args:
        near: (N, k) each row's neighbours.
    """

    def __init__(self, near: Tensor) -> None:
        one_way = torch.zeros(len(near), len(near)).scatter_(1, near, 1.0)
        self.edges = one_way + one_way.T  # whole numbers: sums of them are exact in any order
        self.degrees = self.edges.sum(1)  # (N,)
        self.ends = float(self.degrees.sum())

    def settled(self, classes: Tensor, random: torch.Generator) -> tuple[float, Tensor]:
        """Return the best modularity that is met while rows move to better classes, and these classes."""
        best = -1.0, classes
        for _ in range(ROUNDS):
            members = _members(classes)  # (N, C)
            links, sizes = self.edges @ members, self.degrees @ members  # (N, C) and (C,)
            within = links.gather(1, classes[:, None])[:, 0]
            value = float(within.double().sum() / self.ends - (sizes.double() / self.ends).square().sum())
            if value > best[0]:
                best = value, classes
            own = within - self.degrees * (sizes[classes] - self.degrees) / self.ends  # without the row itself
            gains = torch.addr(links, self.degrees, sizes / self.ends, alpha=-1)
            other = gains.scatter_(1, classes[:, None], own[:, None]).max(1)
            moves = other.values > own
            if not bool(moves.any()):
                break
            classes = torch.where(moves & (torch.rand(len(classes), generator=random) < SHARE), other.indices, classes)
        return best

    def merged(self, classes: Tensor) -> Tensor:
        """Return the classes with those two made one for which the modularity gains most."""
        members = _members(classes)
        sizes = self.degrees @ members / self.ends
        gains = members.T @ (self.edges @ members) / self.ends - sizes.outer(sizes)
        gains += torch.full_like(gains, -torch.inf).tril()
        one, two = divmod(int(gains.argmax()), len(gains))
        return torch.where(classes == two, one, classes)


def _members(classes: Tensor) -> Tensor:
    return one_hot(classes).float()


def _numbered(classes: Tensor) -> Tensor:
    """Return the classes numbered from 0 without gaps."""
    return classes.unique(return_inverse=True)[1]
