"""Labels of which each class gets its share of the images, and classes in which images are most alike."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gemel.distributed import joined_rows
from gemel.methods.parts.linked_classes import likeness
from gemel.methods.parts.sinkhorn import sinkhorn
from gemel.methods.parts.whole_set import share_of
from gemel.samples import evenly_spread

EXPONENT = 6.7
"""λ of the probabilities before classes get their shares: the higher, the harder the labels"""

ROUNDS = 300
"""of Sinkhorn's iterations, after which the shares are right"""

LEAST = 1e-4
"""smallest probability that counts: beyond it an image is as far from one class as from another"""

ROWS = 4096
"""of more images so many, evenly spread, move between the classes; the others then go where these are most alike"""

MOVES = 15
"""rounds of moves at most; thousands of images need about ten"""


def shared_out(probabilities: Tensor, shares: Tensor) -> Tensor:
    """Return labels q_i(c) ∝ r_c p_i(c)^λ, (N, C), with r such that Σ_i q_i(c) = N s_c; all processes must call it.

    Args:
        probabilities: p of all images, (N, C).
        shares: s, (C,), of sum 1.
    """
    scores = probabilities.clamp_min(LEAST).log()
    return joined_rows(sinkhorn(share_of(scores), epsilon=1 / EXPONENT, iterations=ROUNDS, shares=shares))


def balanced(rows: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
    """Return how likely each image is of each class, (N, C), after images have moved to the class they are most like.

    p_i(c) ∝ mean over the images j ≠ i of c of exp(cos_ij / τ). In each round all images get labels by p, until none
    moves (`shared_out`): k-means by a kernel, in which each class keeps its share.

    Args:
        rows: of all images, (N, c), of unit length.
        labels: classes to begin from, (N,).
        shares: of the classes, (C,), of sum 1.

    Returns:
        The same for all classes if a row is not finite.
    """
    if not rows.isfinite().all():
        return rows.new_full((len(rows), len(shares)), 1 / len(shares))
    sample = torch.from_numpy(evenly_spread(len(rows), ROWS))
    some, classes, own = rows[sample], len(shares), labels[sample].cpu()
    alike = likeness(some, some).fill_diagonal_(0)
    for _ in range(MOVES):
        likely = _of_classes(alike, own, classes).to(shares)
        moved = shared_out(likely, shares).argmax(1).cpu()
        if moved.equal(own) or len(moved.unique()) < classes:  # none moves, or nothing tells the classes apart
            break
        own = moved
    if len(some) == len(rows):
        return _of_classes(alike, own, classes)
    return torch.cat([_of_classes(likeness(part, some), own, classes) for part in rows.split(ROWS)])


def _of_classes(alike: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the mean likeness to each class, in rows of sum 1."""
    members = one_hot(labels, classes).to(alike)
    means = alike @ members / members.sum(0).clamp_min(1)
    return means / means.sum(1, keepdim=True)
