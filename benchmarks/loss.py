"""What the losses cost beside lightly's, a pairwise form and their floors: one JSON line a case.

    python benchmarks/loss.py [--threads 2] [--only barlow|wide|multi_crop|relatives] [--losses swav] [--repeats 5]

Forward and backward of random embeddings in float32. seconds: the least of several runs; peer_seconds: the same of
lightly's Barlow Twins loss, or of TWIST's loss on each of the 25 pairs as the released code does; ratio: median over
runs, taken in turn, of peer / ours. gemm_floor: the fewest multiplications that either form needs at the rate of this
machine's matrix product, and bytes_floor: inputs read forward and backward and gradients written at the rate of a
copy, both measured in the same process. peak_gb: resident memory of a process of its own that takes one step (Linux);
empty_peak_gb: of one that takes none. `wide`: embeddings where lightly's matrix alone takes 64 GB or more. relatives:
the other methods that lightly has, at the papers' widths (`loss_pairs.py`).
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from loss_pairs import PAIRS
from torch import Tensor

from gemel.methods.barlow_twins import barlow_twins_loss
from gemel.methods.parts.cross_correlation import cheaper_form
from gemel.methods.twist import multi_crop_loss

Loss = Callable[[Sequence[Tensor]], Tensor]

GRID = [(rows, width) for rows in (64, 256, 1024, 4096) for width in (128, 512, 2048, 8192, 16384)]
BARLOW = sorted({*GRID, (256, 8192), (2048, 8192)}, key=lambda case: case[0] * case[1])
WIDE = [(256, 131072), (256, 1048576)]
VIEWS, ROWS, CLASSES = 14, 256, 4096


def barlow(views: Sequence[Tensor]) -> Tensor:
    return barlow_twins_loss(views[0], views[1])["loss"]


def lightly(views: Sequence[Tensor]) -> Tensor:
    from lightly.loss import BarlowTwinsLoss

    return BarlowTwinsLoss(lambda_param=0.0051)(views[0], views[1])


def multi_crop(views: Sequence[Tensor]) -> Tensor:
    return multi_crop_loss(views)["loss"]


def pairwise(views: Sequence[Tensor]) -> Tensor:
    """TWIST's terms of each pair by themselves, ε inside the logarithms."""

    def entropy(p: Tensor) -> Tensor:
        return -(p * (p + 1e-5).log()).sum(-1)

    def divergence(p: Tensor, q: Tensor) -> Tensor:
        return (p * ((p + 1e-5).log() - (q + 1e-5).log())).sum(1).mean()

    losses: list[Tensor] = []
    for first in range(2):
        for second in range(first + 1, len(views)):
            p, q = views[first].softmax(1), views[second].softmax(1)
            consistency = divergence(p, q) + divergence(q, p)
            sharpness = entropy(p).mean() + entropy(q).mean()
            losses.append((consistency + sharpness - entropy(p.mean(0)) - entropy(q.mean(0))) / 2)
    return torch.stack(losses).mean()


LOSSES: dict[str, Callable[[], Loss]] = {
    **{one.__name__: lambda one=one: one for one in (barlow, lightly, multi_crop, pairwise)},
    **{name: pair.ours for name, pair in PAIRS.items()},
    **{f"lightly's {name}": pair.theirs for name, pair in PAIRS.items()},
}
"""what makes a loss, by name"""


def views_of(count: int, rows: int, width: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(rows, width, generator=generator)
    others = [torch.randn(rows, width, generator=generator).add_(first) for _ in range(count - 1)]
    return [view.requires_grad_() for view in (first, *others)]


def run(loss: Loss, views: Sequence[Tensor]) -> float:
    for view in views:
        view.grad = None
    begin = time.perf_counter()
    loss(views).backward()
    return time.perf_counter() - begin


def least(action: Callable[[], Any], times: int = 7) -> float:
    taken: list[float] = []
    for _ in range(times):
        begin = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def floors(operations: float, size: int, count: int) -> dict[str, float]:
    one, two = torch.rand(1024, 1024), torch.rand(1024, 1024)
    out, source, target = torch.empty(1024, 1024), torch.ones(2**24), torch.ones(2**24)
    gemm = 2 * 1024**3 / least(lambda: torch.mm(one, two, out=out))
    copied = 2 * 4 * 2**24 / least(lambda: target.copy_(source))
    return {"gemm_floor": operations / gemm, "bytes_floor": 3 * 4 * size * count / copied}


def measure(name: str, peer: str | None, count: int, rows: int, width: int, repeats: int) -> dict[str, Any]:
    views = views_of(count, rows, width)
    loss, other_loss = LOSSES[name](), LOSSES[peer]() if peer is not None else None
    run(loss, views)
    if other_loss is not None:
        run(other_loss, views)
    limits = floors(6 * rows * width * min(rows, width) if name == "barlow" else 0, rows * width, count)
    taken: list[tuple[float, float]] = []
    small = 20 if rows * width <= 2**19 else 1
    for _ in range(repeats * small):
        peer_taken = run(other_loss, views) if other_loss is not None else float("nan")
        taken.append((run(loss, views), peer_taken))
    ours = min(one for one, _ in taken)
    found: dict[str, Any] = {"seconds": ours}
    if peer is not None:
        ratios = statistics.median(other / one for one, other in taken)
        found |= {"peer": peer, "peer_seconds": min(other for _, other in taken), "ratio": ratios}
    return found | limits | {"over_floor": ours / max(limits.values())}


def peak(name: str, count: int, rows: int, width: int, threads: int) -> float:
    """Resident memory in GB at its highest, of a fresh process that takes one step of the loss."""
    words = [sys.executable, __file__, "--threads", threads, "--memory", name, count, rows, width]
    return float(subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout)


def report(name: str, peer: str | None, count: int, rows: int, width: int, asked: argparse.Namespace) -> None:
    case: dict[str, Any] = {"loss": name, "views": count, "rows": rows, "width": width, "threads": asked.threads}
    if name == "barlow":
        case["form"] = cheaper_form(rows, width)
    case |= measure(name, peer, count, rows, width, asked.repeats)
    case["peak_gb"] = peak(name, count, rows, width, asked.threads)
    if peer is not None:
        case["peer_peak_gb"] = peak(peer, count, rows, width, asked.threads)
    case["empty_peak_gb"] = peak("nothing", 0, 1, 1, asked.threads)
    print(json.dumps({key: round(one, 5) if isinstance(one, float) else one for key, one in case.items()}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=["barlow", "wide", "multi_crop", "relatives"])
    parser.add_argument("--cases", nargs="*", help="rows,width of Barlow Twins instead of the grid")
    parser.add_argument("--losses", nargs="+", choices=sorted(PAIRS), default=list(PAIRS), help="of relatives")
    parser.add_argument("--memory", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    if asked.memory:
        name, *sizes = asked.memory
        if name != "nothing":
            run(LOSSES[name](), views_of(*map(int, sizes)))
        # not getrusage, whose highest includes the process that started this one
        [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
        print(int(line.split()[1]) / 2**20)
        return
    grid = [tuple(map(int, case.split(","))) for case in asked.cases] if asked.cases else BARLOW
    if asked.only in (None, "barlow"):
        for rows, width in grid:
            report("barlow", "lightly", 2, rows, width, asked)
    if asked.only in (None, "wide"):
        for rows, width in WIDE:
            report("barlow", None, 2, rows, width, asked)
    if asked.only in (None, "multi_crop"):
        report("multi_crop", "pairwise", VIEWS, ROWS, CLASSES, asked)
    if asked.only in (None, "relatives"):
        for name in asked.losses:
            pair = PAIRS[name]
            report(name, f"lightly's {name}", pair.views, pair.rows, pair.width, asked)


if __name__ == "__main__":
    main()
