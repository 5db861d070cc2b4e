"""How many kinds of images are there? As many as heads find again and again, each from weights of its own."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gemel.data.neighbour_table import neighbours
from gemel.methods.parts.class_head import ClassHead
from gemel.methods.twist import multi_crop_loss
from gemel.metrics.clustering import clustering_scores

SAMPLE = 2000
"""of more vectors so many, evenly spread, are looked at"""

COARSE = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 18, 20, 23, 26, 30, 35, 40, 50, 60)
"""numbers of classes that are tried"""

HEADS, STEPS, BATCH, RATE = 8, 400, 256, 5e-3
"""heads of each number, their steps, vectors a step, and the learning rate"""


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
    sizes = [size for size in COARSE if size <= max(2, most)]
    found = heads_of(rows, table, sizes, seed)
    curve = tuple((size, agreement(classes)) for size, classes in zip(sizes, found, strict=True))
    return judged(curve)


def judged(curve: Sequence[tuple[int, float]]) -> Kinds:
    """Return the peak of the curve, and the sizes around it that are nearly as good."""
    number, best = max(curve, key=lambda one: one[1])
    good = [size for size, value in curve if value >= best - 0.03 and abs(size - number) <= 0.2 * number]
    return Kinds(number, min(good), max(good), tuple(curve))


def heads_of(rows: Tensor, table: Tensor, sizes: Sequence[int], seed: int) -> list[NDArray[np.int64]]:
    """Return for each size the classes that the better half of its heads give all vectors, (heads, N)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = nn.ModuleList(ClassHead(rows.shape[1], HEADS * size) for size in sizes)
        losses = [torch.zeros(HEADS) for _ in sizes]
        optimizer = torch.optim.AdamW(heads.parameters(), lr=RATE, weight_decay=1e-4)
        batch = min(BATCH, len(rows))
        for _ in range(STEPS):
            drawn = torch.randperm(len(rows))[:batch]
            near = table[drawn, torch.randint(table.shape[1], (batch,))]
            views = torch.cat([rows[drawn], rows[near]])
            total = rows.new_zeros(())
            for head, size, mean in zip(heads, sizes, losses, strict=True):
                logits = head(views, 2)[1].view(2, batch, HEADS, size)
                loss = multi_crop_loss([logits[0], logits[1]], epsilon=0.0)["loss"]
                mean.lerp_(loss.detach(), 0.03)
                total = total + loss.mean()
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        with torch.no_grad():
            heads.eval()
            found = [
                head(rows)[1].view(len(rows), HEADS, size).argmax(2) for head, size in zip(heads, sizes, strict=True)
            ]
    best = [mean.argsort()[: HEADS // 2] for mean in losses]
    return [classes[:, some].T.numpy() for classes, some in zip(found, best, strict=True)]


def agreement(classes: NDArray[np.int64]) -> float:
    """Return the mean adjusted mutual information of all pairs of rows."""
    return float(np.mean([clustering_scores(one, two)["ami"] for one, two in combinations(classes, 2)]))
