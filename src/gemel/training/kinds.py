"""How many kinds of images are there? As many as divide the graph of neighbours best."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from gemel.data.neighbour_table import neighbours
from gemel.data.threads import threads_apart
from gemel.metrics.divisions import divisions
from gemel.samples import evenly_spread

SAMPLE, SAMPLES = 1000, 2
"""vectors that are looked at together, and how often at most: of more vectors, samples share none"""

PART = 0.3
"""of a class are an image's neighbours: with fewer, kinds fall into parts; with more, kinds side by side are joined"""

LEAST, LARGEST, STEPS = 3, 1 / 6, 24
"""neighbours at least, at most as a share of the vectors, and how many numbers between come into question"""

STARTS, CLUSTERS, A_CLUSTER = 2, 100, 5
"""runs of k-means from which divisions of a sample begin, their clusters, and of few vectors one for so many"""

MOST = 50
"""classes that are tried"""

FEW, FEWER, A_NEIGHBOUR = 4, 0.01, 40
"""up to so many kinds are told by being so much further above noise, whose modularity is highest at about six classes,
with one neighbour for so many vectors: there kinds of many parts look like as many kinds"""

CLEAR = 0.2
"""by which modularity, as a share of the largest that the number allows, must be above that of noise"""

APART = 0.95
"""share of the largest modularity from which on kinds are clear by themselves: hardly an edge leads to another one"""

NEARLY = 0.025
"""numbers whose modularity is lower by at most this share would do as well"""

FEWER_BY, MORE_BY, WIDEST = 0.2, 0.25, 0.4
"""shares by which they may differ from the number, and from one another"""


class Kinds(NamedTuple):
    """How many kinds there seem to be."""

    number: int
    low: int
    high: int
    is_clear: bool
    """whether the vectors are divided better than noise would be; else they may well be of one kind"""
    curve: tuple[tuple[int, float], ...]
    """(number of classes, modularity of the best division)"""

    @property
    def reason(self) -> str:
        """In a few words, for the user."""
        between = f"{self.low} to {self.high} would do as well; " if self.low < self.high else ""
        value = dict(self.curve)[self.number]
        doubt = "" if self.is_clear else "; hardly more than noise: these may be images of one kind"
        return f"{between}so many classes divide neighbours best, modularity {value:.2f}{doubt}"


def count_kinds(rows: Tensor, *, most: int, seed: int = 0) -> Kinds:
    """Return the number of classes that divide neighbours best, where an image's neighbours are `PART` of a class.

    Args:
        rows: (N, c) principal components, N at least 4.
        most: classes that are tried at most.
        seed: of the clusters that divisions begin from.
    """
    samples = min(SAMPLES, -(-len(rows) // SAMPLE))
    chosen = torch.from_numpy(evenly_spread(len(rows), samples * SAMPLE))
    parts = [rows[chosen[first::samples]] for first in range(samples)]
    least = min(len(part) for part in parts)
    steps = np.geomspace(LEAST, max(LEAST, least * LARGEST), STEPS)
    counts = np.unique(steps.round().astype(int).clip(max=least - 1)).tolist()
    count = min(max(LEAST, least // A_NEIGHBOUR), counts[-1])
    curves = _Curves(parts, counts[-1], min(MOST, max(3, most)), seed)
    random = torch.Generator().manual_seed(seed)
    noise = [part.std(0) * torch.randn(part.shape, generator=random) for part in parts]  # components don't correlate
    above = _above(curves.of(count), _Curves(noise, count, curves.most, seed).of(count))
    number = max(above, key=lambda size: above[size] + FEWER * (size > FEW))
    if number > FEW:
        wanted, last = PART * least, len(counts) - 1
        count = counts[bisect_left(counts, wanted, hi=last, key=lambda one: one * best(curves.of(one)))]
        number = best(curves.of(count))
    return judged(curves.of(count), number, max(above.values()))


def best(curve: Mapping[int, float]) -> int:
    """Return the number of classes of the highest modularity."""
    return max(curve, key=lambda size: curve[size])


def judged(curve: Mapping[int, float], number: int, above: float) -> Kinds:
    """Return the number, and which others would do as well.

    Args:
        curve: modularity by number of classes.
        number: of classes that divide the vectors best.
        above: how far they are divided above noise.
    """
    is_apart = curve[number] >= APART * (1 - 1 / number)
    is_clear, rows = is_apart or above >= CLEAR, tuple(curve.items())
    if number <= FEW:
        return Kinds(number, number, number, is_clear, rows)
    low = math.ceil(round((1 - FEWER_BY) * number, 6))
    high = min(math.floor((1 + MORE_BY) * number), low + math.floor(round(WIDEST * number, 6)))
    worse = [size for size, value in rows if value < (1 - NEARLY) * curve[number]]
    low = max([low, *(size + 1 for size in worse if size < number)])
    high = min([high, *(size - 1 for size in worse if size > number)])
    return Kinds(number, low, high, is_clear, rows)


def _above(curve: Mapping[int, float], noise: Mapping[int, float]) -> dict[int, float]:
    """Return how far few classes and the best number are above noise, as a share of what their number allows."""
    sizes = {size for size in curve if size <= FEW} | {best(curve)}
    beside = {size: min(noise, key=lambda other: abs(other - size)) for size in sizes}  # a number may be missing
    return {size: (curve[size] - noise[beside[size]]) / (1 - 1 / size) for size in sizes}


class _Curves:
    """Modularity by number of classes, for any number of neighbours.

    Args:
        parts: samples, (n, c) each.
        count: neighbours at most.
        most: classes that are tried at most.
        seed: of the clusters that divisions begin from.
    """

    def __init__(self, parts: Sequence[Tensor], count: int, most: int, seed: int) -> None:
        from sklearn.cluster import KMeans  # a second or two to import

        self.most = most
        self._near = [torch.from_numpy(neighbours(part, count)) for part in parts]
        self._starts: list[tuple[int, Tensor]] = []
        for part, rows in enumerate(parts):
            distinct = len(rows.unique(dim=0))  # of copies k-means finds no more clusters
            clusters = min(CLUSTERS, max(2, len(rows) // A_CLUSTER), distinct)
            for start in range(STARTS):
                model = cast(Any, KMeans)(clusters, n_init=1, max_iter=10, random_state=seed * STARTS + start)
                self._starts.append((part, torch.from_numpy(model.fit_predict(rows.numpy())).long()))
        self._found: dict[int, dict[int, float]] = {}

    def of(self, count: int) -> dict[int, float]:
        """Return the modularity of the best division of each sample, the mean over the samples."""
        if count not in self._found:
            tops: list[dict[int, float]] = [{} for _ in self._near]
            with threads_apart() as pool:
                found = pool.map(lambda one: divisions(self._near[one[0]][:, :count], one[1]), self._starts)
                for (part, _), values in zip(self._starts, found, strict=True):
                    tops[part] |= {size: max(value, tops[part].get(size, value)) for size, value in values.items()}
            shared = sorted(size for size in tops[0] if 2 <= size <= self.most and all(size in one for one in tops))
            self._found[count] = {size: sum(one[size] for one in tops) / len(tops) for size in shared} or {2: 0.0}
        return self._found[count]
