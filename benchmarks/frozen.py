"""Frozen networks: torch with channels last beside the graph in onnxruntime, in one process: one JSON line each.

    python benchmarks/frozen.py [tf_efficientnet_lite0 resnet18 ...] [--size 224] [--threads 2] [--rounds 5]

Both see the same 64 normalised floats in turns, so that a busy machine slows both; images/s are of the best rounds.
`difference` is the largest of a feature, as a share of the largest feature; `export` the seconds until a new graph is
ready, `load` those of one that lies in the cache, both proven; `import` those of the packages, once a process.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

import torch

NETWORKS = ("tf_efficientnet_lite0", "resnet18", "resnet50")
IMAGES = 64


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def imports() -> dict[str, float]:
    return {name: round(seconds(lambda name=name: import_module(name)), 2) for name in ("onnx", "onnxruntime")}


@torch.no_grad()
def measured(name: str, size: int, rounds: int) -> dict[str, Any]:
    from gemel import backbones
    from gemel.engine.frozen import frozen
    from gemel.engine.onnx_graph import Graph

    torch.manual_seed(0)
    network: Any = backbones.find(name, size)().eval()
    images = torch.randn(IMAGES, 3, size, size).to(memory_format=torch.channels_last)
    export, load = (seconds(lambda: frozen(network, size, engine="onnxruntime")) for _ in range(2))
    graph = frozen(network, size, engine="onnxruntime")
    if not isinstance(graph, Graph):
        return {"network": name, "failed": "no graph; the log of debugging tells why"}
    network.to(memory_format=torch.channels_last)
    wanted = network(images)
    difference = float((graph(images) - wanted).abs().max() / wanted.abs().max())
    best = [float("inf")] * 2
    for _ in range(rounds):
        best = [
            min(now, seconds(lambda look=look: look(images))) for now, look in zip(best, (network, graph), strict=True)
        ]
    rates = {"torch": round(IMAGES / best[0], 1), "onnxruntime": round(IMAGES / best[1], 1)}
    facts = {"difference": f"{difference:.1e}", "export": round(export, 2), "load": round(load, 2)}
    return {"network": name, "size": size, "images_per_second": rates, "ratio": round(best[0] / best[1], 2)} | facts


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    print(json.dumps({"threads": options.threads, "torch": torch.__version__, "import": imports()}), flush=True)
    with TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        for name in options.networks:
            print(json.dumps(measured(name, options.size, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
