"""Classes of vectors whose kinds are known: gemel's heads, k-means, and the objectives of TEMI and TURTLE.

    python benchmarks/heads.py [SET ...] [--seeds 0 1 2 3 4] [--oracles 1] [--out docs/studies/heads.md]

Accuracy of the best matching, mean (lowest) over seeds, and seconds of a fit, imports not counted. All see the vectors
of `vector_sets.py`; the number of classes is given. gemel: `gemel pretrain FILE.npz --classes C`, all else by default.
k-means: scikit-learn's, 10 starts, on the vectors as they are. TEMI (arXiv 2303.17896) and TURTLE (arXiv 2406.07236)
are given gemel's components and neighbours, and TEMI gemel's heads: their objectives are compared, not their networks.
"""

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch.nn.functional import cross_entropy, softmax
from torch.nn.utils.parametrizations import weight_norm
from vector_sets import FOLDER, SETS, load

import gemel
from gemel.backbones.vectors import fitted, vectors
from gemel.data.neighbour_table import count_for, neighbours
from gemel.methods.parts.class_head import ClassHeads
from gemel.metrics.clustering import clustering_scores
from gemel.reports.tables import Table, markdown

Classes = NDArray[np.int64]

HEADS = 16

LENGTH = 8.0
"""mean length of the vectors that TURTLE sees, about that of the features which its rates were made for"""


def by_gemel(rows: NDArray[np.float32], count: int, seed: int) -> Classes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.npz"
        np.savez(file, vector=rows)
        run = gemel.pretrain(str(file), classes=count, seed=seed, out=Path(folder) / "run", quiet=True)
        table: Any = run.classes()
        return table["class"].to_numpy().astype(np.int64)


def by_kmeans(rows: NDArray[np.float32], count: int, seed: int) -> Classes:
    return KMeans(count, n_init=10, random_state=seed).fit_predict(rows).astype(np.int64)


def by_temi(rows: NDArray[np.float32], count: int, seed: int) -> Classes:
    """L = -w log Σ_c (q_s(c|x) q_t(c|x'))^β / q̄_t(c), w = Σ_c q_t(c|x) q_t(c|x') in the mean over heads, β = 0.6."""
    x, near = _seen(rows, count)
    torch.manual_seed(seed)
    student = ClassHeads(x.shape[1], 64, count, HEADS, norm=False)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=1e-4)
    prior, running = torch.full((HEADS, count), 1 / count), torch.zeros(HEADS)
    steps, batch, temperature = 2000, min(256, len(x)), 0.1
    for step in range(steps):
        drawn = torch.randperm(len(x))[:batch]
        both = torch.cat([x[drawn], x[near[drawn, torch.randint(near.shape[1], (batch,))]]])
        one, two = (student(both)[0].view(2, batch, HEADS, count) / temperature).log_softmax(3)
        with torch.no_grad():
            first, second = (teacher(both)[0].view(2, batch, HEADS, count) / temperature).log_softmax(3)
            prior.lerp_(torch.cat([first, second]).exp().mean(0), 0.1)
            weight = (first.exp() * second.exp()).sum(2).mean(1, keepdim=True)  # (n, 1)
        pairs = torch.stack([0.6 * (one + second), 0.6 * (two + first)]) - prior.log()
        losses = -(weight * pairs.logsumexp(3)).mean((0, 1))  # (H,)
        running.lerp_(losses.detach(), 0.02)
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        with torch.no_grad():
            for mine, own in zip(teacher.state_dict().values(), student.state_dict().values(), strict=True):
                mine.lerp_(own, 0.004 if step > 100 else 0.1) if mine.is_floating_point() else mine.copy_(own)
    with torch.no_grad():
        found = teacher.eval()(x)[0].view(len(x), HEADS, count)
    return found[:, int(running.argmin())].argmax(1).numpy()


def by_turtle(rows: NDArray[np.float32], count: int, seed: int) -> Classes:
    """min_θ CE(w x, softmax(θx)) - γ H(mean of softmax(θx)), w trained by 10 steps on the labels of θ; γ = 10.

    As its authors': weight norm on θ, Adam at 1e-3 in both loops, w kept from step to step (their warm start; with
    their cold one digits' pixels fall from 0.908 to 0.524, letters from 0.735 to 0.620); 1,500 steps, theirs are 6,000.
    """
    x, _ = _seen(rows, count)
    x = x * (LENGTH / x.norm(dim=1).mean())
    torch.manual_seed(seed)
    task = weight_norm(torch.nn.Linear(x.shape[1], count))
    learner = torch.nn.Linear(x.shape[1], count)
    outer = torch.optim.Adam(task.parameters(), lr=1e-3)
    inner = torch.optim.Adam(learner.parameters(), lr=1e-3)
    for _ in range(1500):
        batch = x[torch.randperm(len(x))[:2000]]
        labels = softmax(task(batch), 1)
        for _ in range(10):
            inner.zero_grad()
            cross_entropy(learner(batch), labels.detach()).backward()
            inner.step()
        outer.zero_grad()
        (cross_entropy(learner(batch).detach(), labels) - 10 * torch.special.entr(labels.mean(0)).sum()).backward()
        outer.step()
    with torch.no_grad():
        return task(x).argmax(1).numpy()


def _seen(rows: NDArray[np.float32], count: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = fitted(vectors(width=rows.shape[1]), torch.from_numpy(rows))
    return x, torch.from_numpy(neighbours(x, count_for(len(x), count)))


def scored(way: Callable[..., Classes], given: Any, labels: Classes, seeds: list[int]) -> tuple[list[float], float]:
    """Return the accuracy of each seed, and the seconds of a fit."""
    count, begun = len(np.unique(labels)), time.perf_counter()
    found = [clustering_scores(labels, way(given, count, seed))["acc"] for seed in seeds]
    return found, (time.perf_counter() - begun) / len(seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=list(SETS))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--oracles", type=int, default=1, help="seeds of TEMI and TURTLE")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    ways = {"gemel": by_gemel, "k-means": by_kmeans, "TEMI": by_temi, "TURTLE": by_turtle}
    rows: list[tuple[str, ...]] = []
    means: list[list[float]] = []
    for name in options.sets:
        given, labels = load(name, options.folder)
        row, mean = [name], list[float]()
        for way, run in ways.items():
            seeds = options.seeds if way in ("gemel", "k-means") else options.seeds[: options.oracles]
            found, seconds = scored(run, given, labels, seeds) if seeds else ([float("nan")], 0.0)
            mean.append(float(np.mean(found)))
            row.append(f"{mean[-1]:.3f} ({min(found):.3f})  {seconds:.0f} s")
        rows.append(tuple(row))
        means.append(mean)
        print(*row, sep="   ", flush=True)
    rows.append(("mean", *(f"{value:.3f}" for value in np.mean(means, axis=0))))
    print(*rows[-1], sep="   ")
    if options.out is not None:
        options.out.write_text(markdown(Table("", ("vectors", *ways), tuple(rows))) + "\n")


if __name__ == "__main__":
    main()
