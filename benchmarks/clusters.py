"""How long do exact k-means and SeLa's relabelling take, and a checkpoint of DeepCluster v2's memory?

python benchmarks/clusters.py [--rows 100000] [--width 128] [--classes 1000] [--only means|labels|whole|memory]

The rows are random unit vectors around random centres, on this machine's device. means: k-means; GFLOP/s are those of
the distances alone. labels: the transport of SeLa's labels, a round in both widths. whole: the same to the released
tolerance. memory: two embeddings an image, DeepCluster v2's state, written to the disk as the engine does it.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize

from gemel.device import device
from gemel.engine import checkpoints
from gemel.methods.parts.equipartition import equipartition
from gemel.methods.parts.kmeans import kmeans
from gemel.runs.run import RUN_FILE, Run


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    if device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def rows_of(count: int, width: int, classes: int) -> Tensor:
    torch.manual_seed(0)
    centres = normalize(torch.randn(classes, width, device=device()))
    found = centres[torch.randint(classes, (count,), device=device())]
    return normalize(found + 0.1 * torch.randn(count, width, device=device()))


def checkpoint(count: int, width: int) -> tuple[float, float]:
    """Megabytes and seconds of a checkpoint with a memory of two embeddings an image."""
    memory = torch.randn(2, count, width)
    with tempfile.TemporaryDirectory(dir=".") as folder:  # not in /tmp, which may be memory
        (Path(folder) / RUN_FILE).touch()
        run = Run(folder)
        run.checkpoint_path.parent.mkdir()
        taken = seconds(lambda: checkpoints.save(run, {"memory": memory}))
        return run.checkpoint_path.stat().st_size / 1e6, taken


def means(rows: Tensor, classes: int, rounds: int) -> None:
    count, width = rows.shape
    start = rows[torch.randperm(count)[:classes]]
    for name, spherical in (("k-means, spherical", True), ("k-means, Euclidean", False)):
        taken = seconds(lambda spherical=spherical: kmeans(rows, start, iterations=rounds, spherical=spherical))
        flops = 2 * count * width * classes * (rounds + 1)
        print(f"{name}: {taken:.1f} s, {flops / taken / 1e9:.0f} GFLOP/s", flush=True)


def scores_of(rows: Tensor, classes: int) -> Callable[[slice], Tensor]:
    layer = nn.Linear(rows.shape[1], classes, device=device())

    @torch.no_grad()
    def scores(part: slice) -> Tensor:
        return log_softmax(3 * layer(rows[part]).double(), 1)

    return scores


def labels(rows: Tensor, classes: int, rounds: int) -> None:
    count, scores = len(rows), scores_of(rows, classes)
    for kind in (torch.float64, torch.float32):
        few = seconds(lambda kind=kind: equipartition(scores, count, tolerance=0.0, most=1, dtype=kind))
        many = seconds(lambda kind=kind: equipartition(scores, count, tolerance=0.0, most=1 + rounds, dtype=kind))
        size = count * classes * kind.itemsize / 1e9
        told = f"{few:.1f} s to make, {(many - few) / rounds:.2f} s a round"
        print(f"transport, {kind} ({size:.1f} GB): {told}", flush=True)


def whole(rows: Tensor, classes: int, _: int) -> None:
    scores = scores_of(rows, classes)
    solved = seconds(
        lambda: print(f"  {equipartition(scores, len(rows)).rounds} rounds to the released tolerance", flush=True)
    )
    print(f"transport, whole: {solved:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10, help="of k-means, and of the transport")
    parser.add_argument("--only", choices=["means", "labels", "whole", "memory"])
    given = parser.parse_args()
    count, width, classes = given.rows, given.width, given.classes
    where = f"{device().type}, {torch.get_num_threads()} threads" if device().type == "cpu" else "cuda"
    print(f"{count} rows of {width} into {classes}, {given.rounds} rounds, {where}")
    if given.only != "memory":
        rows = rows_of(count, width, classes)
        for name, part in (("means", means), ("labels", labels), ("whole", whole)):
            if given.only in (None, name):
                part(rows, classes, given.rounds)
    if given.only in (None, "memory"):
        size, taken = checkpoint(count, width)
        print(f"memory of 2 x {count} x {width}: {size:.0f} MB, written in {taken:.2f} s")


if __name__ == "__main__":
    main()
