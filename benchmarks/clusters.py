"""How long do exact k-means and SeLa's relabelling take, and a checkpoint of DeepCluster v2's memory?

python benchmarks/clusters.py [--rows 100000] [--width 128] [--classes 1000] [--rounds 10]

The rows are random unit vectors around random centres, on this machine's device. The last line is the largest piece of
work that a figure stands for: 1,000,000 rows of 128 into 3,000. GFLOP/s are those of the distances alone.
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
from gemel.methods.parts.equipartition import equipartition
from gemel.methods.parts.kmeans import kmeans


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
    """Megabytes and seconds of writing a memory of two embeddings an image."""
    memory = torch.randn(2, count, width)
    with tempfile.TemporaryDirectory() as folder:
        taken = seconds(lambda: torch.save({"memory": memory}, Path(folder) / "last.ckpt"))
    return memory.numel() * 4 / 1e6, taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10, help="of k-means, and of the transport")
    given = parser.parse_args()
    count, width, classes = given.rows, given.width, given.classes
    rows = rows_of(count, width, classes)
    start = rows[torch.randperm(count)[:classes]]
    where = f"{device().type}, {torch.get_num_threads()} threads" if device().type == "cpu" else "cuda"
    print(f"{count} rows of {width} into {classes}, {given.rounds} rounds, {where}")
    for name, spherical in (("k-means, spherical", True), ("k-means, Euclidean", False)):
        taken = seconds(lambda spherical=spherical: kmeans(rows, start, iterations=given.rounds, spherical=spherical))
        flops = 2 * count * width * classes * (given.rounds + 1)
        print(f"{name}: {taken:.1f} s, {flops / taken / 1e9:.0f} GFLOP/s")
    layer = nn.Linear(width, classes, device=device())

    @torch.no_grad()
    def scores(part: slice) -> Tensor:
        return log_softmax(3 * layer(rows[part]).double(), 1)

    for kind in (torch.float64, torch.float32):
        few = seconds(lambda kind=kind: equipartition(scores, count, tolerance=0.0, most=1, dtype=kind))
        many = seconds(lambda kind=kind: equipartition(scores, count, tolerance=0.0, most=1 + given.rounds, dtype=kind))
        size = count * classes * kind.itemsize / 1e9
        print(f"transport, {kind} ({size:.1f} GB): {few:.1f} s to make, {(many - few) / given.rounds:.2f} s a round")
    solved = seconds(lambda: print(f"  {equipartition(scores, count).rounds} rounds to the released tolerance"))
    print(f"transport, whole: {solved:.1f} s")
    size, taken = checkpoint(count, width)
    print(f"memory of 2 x {count} x {width}: {size:.0f} MB, written in {taken:.2f} s")


if __name__ == "__main__":
    main()
