"""How many kinds of images are there? As many as heads find again and again, each from weights of its own."""

import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gemel.data.neighbour_table import neighbours
from gemel.methods.parts.class_head import ClassHead
from gemel.methods.twist import multi_crop_loss
from gemel.metrics.clustering import clustering_scores

SAMPLE = 1000
"""of more vectors so many, evenly spread, are looked at"""

SIZES = (*range(2, 15), 16, 18, 20, 23, 26, 30, 35, 40, 50)
"""numbers of classes that are tried"""

WIDTHS = (8, 16, 32, 64)
"""heads of several numbers of classes share a product, filled up to one of these"""

HEADS, STEPS, BATCH, RATE = 6, 400, 128, 5e-3
"""heads of each number, their steps, vectors a step, and the learning rate"""

NEARLY = 0.06
"""agreements that are no further apart than this are as good"""

SPREAD = 0.2
"""share by which the number may be wrong where no number stands out"""

NEVER = -1e4
"""logit of a class that a head does not have"""


class Kinds(NamedTuple):
    """How many kinds there seem to be."""

    number: int
    low: int
    high: int
    curve: tuple[tuple[int, float], ...]
    """(number of classes, how well heads of so many agree: mean AMI)"""

    @property
    def reason(self) -> str:
        """In a few words, for the user."""
        agreement = dict(self.curve)[self.number]
        between = f"{self.low} to {self.high} would do as well; " if self.low < self.high else ""
        return f"{between}heads of {self.number} classes agree best, AMI {agreement:.2f}"


def count_kinds(rows: Tensor, *, most: int, nearest: int = 10, seed: int = 0) -> Kinds:
    """Return the number of classes at which heads trained from different weights agree best.

    Args:
        rows: (N, c) vectors.
        most: classes that are tried at most.
        nearest: vectors among which a second view is drawn.
        seed: of the heads.
    """
    chosen = torch.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).round().long().unique()
    rows = rows[chosen]
    table = torch.from_numpy(neighbours(rows, min(nearest, max(1, len(rows) // 20))))
    sizes = [size for size in SIZES if size <= max(3, most)]
    found = heads_of(rows, table, sizes, seed)
    return judged([(size, agreement(classes)) for size, classes in zip(sizes, found, strict=True)])


def judged(curve: Sequence[tuple[int, float]]) -> Kinds:
    """Return the first peak that is nearly as high as any, and what would do as well.

    With more classes than kinds, heads agree on parts of kinds, and may do so as well as on kinds: the first peak
    counts. Where a later one is higher, no number stands out, and the interval is ± `SPREAD`.
    """
    best = max(value for _, value in curve)
    first = next(place for place, (_, value) in enumerate(curve) if value >= best - NEARLY)
    while first + 1 < len(curve) and curve[first + 1][1] > curve[first][1]:
        first += 1
    number, peak = curve[first]
    near = [(size, value) for size, value in curve if abs(size - number) <= SPREAD * number]
    if peak == best:
        near = [(size, value) for size, value in near if value >= peak - NEARLY]
        return Kinds(number, near[0][0], near[-1][0], tuple(curve))
    return Kinds(number, math.ceil((1 - SPREAD) * number), math.floor((1 + SPREAD) * number), tuple(curve))


def heads_of(rows: Tensor, table: Tensor, sizes: Sequence[int], seed: int) -> list[NDArray[np.int64]]:
    """Return for each size the classes that its heads give all vectors, (heads, N).

    Args:
        rows: (N, c) vectors.
        table: (N, k) indices of the nearest ones of each.
        sizes: numbers of classes, rising.
        seed: of the weights and draws.
    """
    bounds = pairwise((0, *WIDTHS))
    groups = [(width, own) for least, width in bounds if (own := [one for one in sizes if least < one <= width])]
    masks = [_mask(width, own) for width, own in groups]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = nn.ModuleList(ClassHead(rows.shape[1], mask.numel()) for mask in masks)
        optimizer = torch.optim.AdamW(heads.parameters(), lr=RATE, weight_decay=1e-4)
        batch = min(BATCH, len(rows))
        for _ in range(STEPS):
            drawn = torch.randperm(len(rows))[:batch]
            near = table[drawn, torch.randint(table.shape[1], (batch,))]
            views = torch.cat([rows[drawn], rows[near]])
            total = rows.new_zeros(())
            for head, mask in zip(heads, masks, strict=True):
                logits = head(views, 2)[1].view(2, batch, *mask.shape) + mask
                total = total + multi_crop_loss([logits[0], logits[1]], epsilon=0.0)["loss"].sum()
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
    found: list[NDArray[np.int64]] = []
    with torch.no_grad():
        for head, mask in zip(heads.eval(), masks, strict=True):
            classes = (head(rows)[1].view(len(rows), *mask.shape) + mask).argmax(2)  # (N, sizes · HEADS)
            found += [one.T.numpy() for one in classes.split(HEADS, 1)]
    return found


def _mask(width: int, sizes: Sequence[int]) -> Tensor:
    """Return what takes away the classes that heads of these sizes do not have, (sizes · HEADS, width)."""
    count = torch.tensor(sizes).repeat_interleave(HEADS)[:, None]
    return torch.zeros(len(count), width).masked_fill(torch.arange(width) >= count, NEVER)


def agreement(classes: NDArray[np.int64]) -> float:
    """Return the mean adjusted mutual information of all pairs of rows."""
    return float(np.mean([clustering_scores(one, two)["ami"] for one, two in combinations(classes, 2)]))
