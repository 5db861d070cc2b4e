"""Classes of unequal sizes: finer ones of about one size are learned, and joined by how alike their images are.

A loss that asks for classes of one size divides a frequent kind, and joins rare ones. Of several times as many classes
none holds two kinds, and a frequent kind takes several: only these have to be found.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from gemel.distributed import from_first

ROWS = 4096
"""images whose probabilities are held at a time"""


class JoinedClasses(nn.Module):
    """p(c) = Σ p(f) over the finer classes f that are joined in c, for each of several heads.

    Until they are joined, neighbours in number stand together.

    Args:
        heads: H.
        classes: C.
        finer: finer classes for each of them, so that F = finer · C.
    """

    def __init__(self, heads: int, classes: int, finer: int) -> None:
        super().__init__()
        self.classes = classes
        self.group: Tensor
        self.register_buffer("group", torch.arange(classes).repeat_interleave(finer).repeat(heads, 1))

    @torch.no_grad()
    def join(self, features: Tensor, look: Callable[[Tensor], Tensor]) -> None:
        """Join each head's finer classes, by features of all readable images.

        Args:
            features: (N, d), the same on every process.
            look: features (n, d) to probabilities of the finer classes, (n, H, F).
        """
        heads, fine = self.group.shape
        sums = features.new_zeros(heads * fine, features.shape[1], dtype=torch.float64)
        counts = torch.zeros(heads * fine, dtype=torch.float64)
        first = fine * torch.arange(heads)
        for part in features.split(ROWS):
            found = (look(part.to(self.group.device)).argmax(2).cpu() + first).flatten()  # (n · H,)
            sums.index_add_(0, found, normalize(part, dim=1).double().repeat_interleave(heads, 0))
            counts += torch.bincount(found, minlength=len(counts))
        means = (sums / counts.clamp_min(1)[:, None]).unflatten(0, (heads, fine))
        pairs = zip(means @ means.mT, counts.view(heads, fine), strict=True)
        group = [joined(alike.numpy(), count.numpy(), self.classes) for alike, count in pairs]
        self.group.copy_(from_first(torch.from_numpy(np.stack(group)).to(self.group)))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return (B, H, C) of the finer classes' probabilities (B, H, F)."""
        found = probabilities.new_zeros(*probabilities.shape[:2], self.classes)
        return found.scatter_add(2, self.group.expand(len(probabilities), -1, -1), probabilities)


def joined(alike: NDArray[np.float64], counts: NDArray[np.float64], classes: int) -> NDArray[np.int64]:
    """Return the class of each finer one, (F,), from 0: group-average linkage down to so many classes.

    The two most alike are joined, again and again: s(a + b, c) = (n_a s(a, c) + n_b s(b, c)) / (n_a + n_b), the mean
    over pairs of images. Linkage of images begins likewise, with each alone (Sokal and Michener, 1958).

    Args:
        alike: (F, F) symmetric; mean cosine between the images of two of them.
        counts: (F,) their images; those without any are in class 0.
        classes: at most as many are left.

    >>> joined(np.array([[1, 0.1, 0.9], [0.1, 1, 0.2], [0.9, 0.2, 1]]), np.array([5.0, 9.0, 2.0]), 2)
    array([0, 1, 0])
    """
    mean, counts = alike.astype(np.float64), counts.astype(np.float64)
    left = counts > 0
    mean[~left] = mean[:, ~left] = -np.inf
    np.fill_diagonal(mean, -np.inf)
    owner, best = np.arange(len(counts)), mean.argmax(1)
    for _ in range(int(left.sum()) - classes):
        one = int(np.where(left, mean[np.arange(len(best)), best], -np.inf).argmax())
        other = int(best[one])
        row = (counts[one] * mean[one] + counts[other] * mean[other]) / (counts[one] + counts[other])
        row[[one, other]] = -np.inf
        mean[one] = mean[:, one] = row
        mean[other] = mean[:, other] = -np.inf
        counts[one] += counts[other]
        left[other], owner[owner == other] = False, one
        stale = np.flatnonzero(left & ((best == one) | (best == other) | (np.arange(len(best)) == one)))
        best[stale] = mean[stale].argmax(1)  # of all others the mean with the joined two is no larger than before
    kept = np.flatnonzero(left)
    return np.where(np.isin(owner, kept), np.searchsorted(kept, owner), 0)
