"""What a step costs, beside its floor: one JSON line for each network and method.

    python benchmarks/step.py [--threads 2]

seconds: a whole step (views from memory, forward, backward, optimiser), median of several; views: of them, the drawing
of the batch's views in the same process; network: the same step on views that are ready; floor: the network's
multiplications at the rate of this machine's matrix product, measured in the same run.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from gemel import backbones, methods
from gemel.data.batches import Plan, draw_views
from gemel.data.sources import open_source
from gemel.recipes import AdamWOptimizer, GlyphViews, PhotoViews
from gemel.train.module import Pretrainer

CASES: list[tuple[str, dict[str, Any], str, int, int]] = [
    ("convnet", {}, "glyph", 16, 128),
    ("resnet18", {"stem": "standard"}, "photo", 64, 32),
    ("resnet18", {"stem": "small"}, "photo", 32, 32),
]
OPTIONS: dict[str, dict[str, Any]] = {
    "twist": {"classes": 10, "hidden": 128, "heads": 8},
    "barlow_twins": {"projector": (512, 512, 512)},
}


def median(action: Callable[[], Any], times: int = 7) -> float:
    action()
    taken: list[float] = []
    for _ in range(times):
        begin = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def matrix_rate() -> float:
    """FLOPs a second of a large matrix product in float32."""
    one, two = torch.rand(1024, 1024), torch.rand(1024, 1024)
    return 2 * 1024**3 / median(lambda: one @ two, 20)


def measure(name: str, case: tuple[str, dict[str, Any], str, int, int], rate: float) -> dict[str, Any]:
    network, options, family, size, batch_size = case
    torch.manual_seed(0)
    method = methods.find(name)(backbones.find(network)(**options), **OPTIONS[name])
    views = GlyphViews() if family == "glyph" else PhotoViews()
    plan = Plan(open_source("digits"), views, size, 0, batch_size)
    module = Pretrainer(method, AdamWOptimizer(), views, batch_size=batch_size, steps=100, warmup=0.1)
    ready = draw_views(plan, 0, plan.rows(0).tolist()).batch

    def step(batch: Any) -> None:
        module.training_step(batch, 0).backward()
        module.optimizer.step()
        module.optimizer.zero_grad()

    with FlopCounterMode(display=False) as counter:
        step(ready)
    drawing = median(lambda: draw_views(plan, 0, plan.rows(1).tolist()))
    alone = median(lambda: step(ready))
    floor = counter.get_total_flops() / rate
    return {
        "method": name,
        "network": f"{network} {options.get('stem', '')}".strip(),
        "size": size,
        "batch": batch_size,
        "seconds": round(alone + drawing, 4),
        "views": round(drawing, 4),
        "network_seconds": round(alone, 4),
        "floor": round(floor, 4),
        "network_over_floor": round(alone / floor, 1),
        "images_per_second": round(batch_size / (alone + drawing), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    rate = matrix_rate()
    print(json.dumps({"threads": torch.get_num_threads(), "matrix_gflops": round(rate / 1e9, 1)}))
    for case in CASES:
        for name in methods.available():
            print(json.dumps(measure(name, case, rate)), flush=True)


if __name__ == "__main__":
    main()
