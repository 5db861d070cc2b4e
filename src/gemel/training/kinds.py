"""How many kinds of images are there? As many as divide the graph of neighbours best."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from threading import Event
from typing import NamedTuple

import torch
from torch import Tensor

from gemel.data.neighbour_table import MOST, neighbours
from gemel.data.threads import threads_apart
from gemel.methods.parts.class_head import ClassHeads
from gemel.methods.parts.twist_losses import multi_crop_loss
from gemel.metrics.modularity import modularity
from gemel.schedules import cosine

SAMPLE = 1000
"""of more vectors so many, evenly spread, are looked at"""

A_NEIGHBOUR = 40
"""for each so many vectors one neighbour is looked at, from 3 up to `MOST`"""

WIDTHS = (8, 16, 32, 64)
"""heads of several numbers of classes share a product, filled up to one of these"""

HEADS, KEPT = 4, 2
"""heads of each number, and how many of them count, the best ones"""

HIDDEN, STEPS, BATCH, RATE = 32, 400, 128, 1e-2
"""width of a head's hidden layer, steps, vectors a step, and the learning rate at the beginning"""

SIZES = (*range(2, 15), 16, 18, 20, 23, 26, 30, 35, 40, 50)
"""numbers of classes that are tried"""

FEW = 4
"""up to so many kinds are told by how far above noise they are: the modularity of noise is highest at about six"""

CLEAR = 0.2
"""by which modularity, as a share of the largest that the number allows, must be above that of noise"""

APART = 0.95
"""share of the largest modularity from which on kinds are clear by themselves: hardly an edge leads to another one"""

NEARLY = 0.025
"""numbers whose modularity is lower by at most this share would do as well"""

SPREAD = 0.2
"""share by which they may differ from the number"""

NEVER = -50.0
"""logit of a class that a head does not have: far below all others, and yet no exponential underflows, which is slow"""


class Kinds(NamedTuple):
    """How many kinds there seem to be."""

    number: int
    low: int
    high: int
    is_clear: bool
    """whether the vectors are divided better than noise would be; else they may well be of one kind"""
    curve: tuple[tuple[int, float], ...]
    """(number of classes, modularity of the best heads)"""

    @property
    def reason(self) -> str:
        """In a few words, for the user."""
        between = f"{self.low} to {self.high} would do as well; " if self.low < self.high else ""
        value = dict(self.curve)[self.number]
        doubt = "" if self.is_clear else "; hardly more than noise: these may be images of one kind"
        return f"{between}so many classes divide neighbours best, modularity {value:.2f}{doubt}"


def count_kinds(rows: Tensor, *, most: int, seed: int = 0) -> Kinds:
    """Return the number of classes by which heads divide neighbours best.

    Args:
        rows: (N, c) principal components.
        most: classes that are tried at most.
        seed: of the heads.
    """
    rows = rows[torch.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).round().long().unique()]
    curve = divided(rows, [size for size in SIZES if size <= max(3, most)], seed)
    best = max(curve, key=lambda size: curve[size])
    random = torch.Generator().manual_seed(seed)
    noise = rows.std(0) * torch.randn(rows.shape, generator=random)  # components are not correlated
    return judged(curve, divided(noise, sorted({best, *(size for size in curve if size <= FEW)}), seed))


def judged(curve: Mapping[int, float], noise: Mapping[int, float]) -> Kinds:
    """Return the number of the highest modularity, or of few kinds that are further above noise.

    Args:
        curve: modularity by number of classes.
        noise: of vectors without kinds, for that number and up to `FEW`.
    """
    above = {size: (curve[size] - noise[size]) / (1 - 1 / size) for size in noise}
    number = max(above, key=lambda size: above[size])
    is_apart = curve[number] >= APART * (1 - 1 / number)
    is_clear, rows = is_apart or above[number] >= CLEAR, tuple(curve.items())
    if number <= FEW:
        return Kinds(number, number, number, is_clear, rows)
    low, high = math.ceil((1 - SPREAD) * number), math.floor((1 + SPREAD) * number)
    worse = [size for size, value in rows if value < (1 - NEARLY) * curve[number]]
    low = max([low, *(size + 1 for size in worse if size < number)])
    high = min([high, *(size - 1 for size in worse if size > number)])
    return Kinds(number, low, high, is_clear, rows)


def divided(rows: Tensor, sizes: Sequence[int], seed: int) -> dict[int, float]:
    """Return by number of classes how well the best heads divide the graph of neighbours: their mean modularity."""
    count = min(MOST, max(3, len(rows) // A_NEIGHBOUR), len(rows) - 1)
    near = torch.from_numpy(neighbours(rows, count))
    found = heads_of(rows, near, sizes, seed)
    values = [sorted((modularity(head, near) for head in heads), reverse=True)[:KEPT] for heads in found]
    return {size: sum(best) / len(best) for size, best in zip(sizes, values, strict=True)}


def heads_of(rows: Tensor, near: Tensor, sizes: Sequence[int], seed: int) -> list[Tensor]:
    """Return for each number of classes what its heads give all vectors, (heads, N).

    Args:
        rows: (N, c) vectors.
        near: (N, k) indices of the nearest ones of each.
        sizes: numbers of classes, rising.
        seed: of the weights and draws.
    """
    bounds = pairwise((0, *WIDTHS))
    groups = [(width, own) for least, width in bounds if (own := [one for one in sizes if least < one <= width])]
    masks = [_mask(width, own) for width, own in groups]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = [ClassHeads(rows.shape[1], HIDDEN, mask.shape[1], len(mask)) for mask in masks]
        batches = [_batch(rows, near) for _ in range(STEPS)]
    _train_all(heads, masks, rows, batches)
    found: list[Tensor] = []
    with torch.no_grad():
        for head, mask in zip(heads, masks, strict=True):
            classes = (head.eval()(rows)[1].view(len(rows), *mask.shape) + mask).argmax(2)  # (N, sizes · HEADS)
            found += [one.T for one in classes.split(HEADS, 1)]
    return found


def _batch(rows: Tensor, near: Tensor) -> Tensor:
    """Draw vectors and a neighbour of each, indices (2 · batch,)."""
    drawn = torch.randperm(len(rows))[:BATCH]
    return torch.cat([drawn, near[drawn, torch.randint(near.shape[1], (len(drawn),))]])


def _train_all(heads: Sequence[ClassHeads], masks: Sequence[Tensor], rows: Tensor, batches: Sequence[Tensor]) -> None:
    """Train each product of heads on a thread of its own."""
    stopped = Event()
    with threads_apart() as pool:
        try:
            for _ in pool.map(lambda head, mask: _train(head, mask, rows, batches, stopped), heads, masks):
                pass
        finally:
            stopped.set()  # an interrupt does not wait for the steps that are left


def _train(head: ClassHeads, mask: Tensor, rows: Tensor, batches: Sequence[Tensor], stopped: Event) -> None:
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=1e-4, fused=True)
    for step, drawn in enumerate(batches):
        if stopped.is_set():
            return
        optimizer.param_groups[0]["lr"] = cosine(step / len(batches), RATE, 0.0)
        one, two = head(rows[drawn], 2)[1].view(2, -1, *mask.shape) + mask
        loss = multi_crop_loss([one, two], epsilon=0.0)["loss"].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _mask(width: int, sizes: Sequence[int]) -> Tensor:
    """Return what takes away the classes that heads of these sizes do not have, (sizes · HEADS, width)."""
    count = torch.tensor(sizes).repeat_interleave(HEADS)[:, None]
    return torch.zeros(len(count), width).masked_fill(torch.arange(width) >= count, NEVER)
