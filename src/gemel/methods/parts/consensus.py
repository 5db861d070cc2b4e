"""Which of several heads give the classes in the end: the one that divides the images best, or an average of several.

No label is looked at: a head is good where neighbours share a class, and classes are many (modularity).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gemel.data.neighbour_table import count_for, neighbours
from gemel.distributed import from_first
from gemel.metrics.modularity import modularity
from gemel.samples import evenly_spread

NEARLY = 0.0025
"""heads whose modularity is lower than the best one's by at most this share are averaged"""

LOSS = 0.005
"""share of modularity that the average may lose: beyond it the heads mean different classes"""

ROUNDS = 5
"""of aligning and averaging, at most; it ends where no image changes its class"""

ROWS = 10_000
"""of more images so many, evenly spread, are looked at"""

NEIGHBOURS = 4
"""by which heads are compared: with more of them, heads that join kinds which lie side by side look as good"""

_CELLS = 2**26
"""probabilities of all heads that are held at most, where that leaves 1,000 images"""


class Consensus(nn.Module):
    """p̄(c) = mean over chosen heads h of p_h(π_h(c)): π_h aligns a head's classes with those of the best head.

    Until heads are chosen, all their shares are 0.

    Args:
        heads: H.
        classes: C.
    """

    def __init__(self, heads: int, classes: int) -> None:
        super().__init__()
        self.share: Tensor
        self.order: Tensor
        self.register_buffer("share", torch.zeros(heads))
        self.register_buffer("order", torch.arange(classes).repeat(heads, 1))

    @torch.no_grad()
    def choose(self, features: Tensor, look: Callable[[Tensor], Tensor]) -> None:
        """Choose heads by features of all readable images.

        Args:
            features: (N, d), the same on every process.
            look: features (n, d) to probabilities of all heads, (n, H, C).
        """
        heads, classes = self.order.shape
        rows = min(ROWS, max(1000, _CELLS // (heads * classes)))
        chosen = torch.from_numpy(evenly_spread(len(features), rows))
        features = features[chosen].to(self.share.device)
        count = count_for(len(features), classes, NEIGHBOURS)
        near = torch.from_numpy(neighbours(features.cpu(), count))
        probabilities = look(features).float().cpu()
        share, order = chosen_heads(probabilities, near)
        self.share.copy_(from_first(share.to(self.share)))
        self.order.copy_(from_first(order.to(self.order)))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Return (B, C) of all heads' probabilities (B, H, C)."""
        order = self.order.expand(len(probabilities), -1, -1)
        return torch.einsum("bhc,h->bc", probabilities.gather(2, order), self.share.to(probabilities.dtype))


def chosen_heads(probabilities: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Return each head's share of the consensus, (H,), and its classes in the order of the best head's, (H, C).

    Args:
        probabilities: (N, H, C).
        near: (N, k) rows of each one's neighbours.
    """
    scores = [modularity(one, near) for one in probabilities.argmax(2).T]
    ranked = sorted(range(len(scores)), key=lambda head: -scores[head])
    best = scores[ranked[0]]
    nearly = [head for head in ranked if scores[head] >= best * (1 - NEARLY)]
    order = torch.arange(probabilities.shape[2]).repeat(len(scores), 1)
    mean, aligned = averaged(probabilities, nearly)
    if modularity(mean.argmax(1), near) < best * (1 - LOSS):
        nearly = ranked[:1]
    else:
        order[nearly] = aligned
    share = torch.zeros(len(scores))
    share[nearly] = 1 / len(nearly)
    return share, order


def averaged(probabilities: Tensor, heads: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the mean of some heads' probabilities, (N, C), and each one's classes in its order, (n, C).

    Classes are aligned with the first head's, then again with the mean, by the assignment of the largest overlap.
    """
    from scipy.optimize import linear_sum_assignment  # half a second to import

    mean = probabilities[:, heads[0]]
    order = torch.arange(mean.shape[1]).repeat(len(heads), 1)
    for _ in range(ROUNDS):
        parts: list[Tensor] = []
        for place, head in enumerate(heads):
            overlap = mean.T @ probabilities[:, head]  # (C, C)
            order[place] = torch.from_numpy(np.asarray(linear_sum_assignment(overlap.numpy(), maximize=True)[1]))
            parts.append(probabilities[:, head, order[place]])
        before, mean = mean.argmax(1), torch.stack(parts).mean(0)
        if bool((mean.argmax(1) == before).all()):
            break
    return mean, order
