"""A large batch whose network sees it in parts: peak memory and seconds of a step, beside the batch as a whole.

    python benchmarks/parts.py [--batch 4096] [--part 256] [--side 32] [--threads 2] [--method barlow_twins twist]

Random images, ResNet-18 with its standard stem, two views, the method's own small heads. Each side takes a step to warm
up and one that counts, in a process of its own; the losses differ by what parts change, which is batch norms alone.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import torch

from gemel import methods
from gemel.backbones.timm import timm_backbone
from gemel.data.plan import Batch


def step(name: str, batch: int, part: int | None, side: int, threads: int) -> dict[str, Any]:
    """Return peak memory in GB beyond what the libraries take, seconds, and the loss."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    options = {"classes": 100} if name == "twist" else {}
    backbone = timm_backbone("resnet18", side)
    method = methods.find(name)(backbone, **(dict(methods.find(name).recipes["small"].method) | options))
    method.attach(batch)
    backbone.part = part
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images = torch.randn(batch, 3, side, side)
    views = [images, images + 0.3 * torch.randn(images.shape)]
    data = Batch(views, torch.arange(batch), torch.full((batch,), -1))
    loss, seconds = 0.0, 0.0
    for _ in range(2):
        begin = time.perf_counter()
        terms = method(data, 0.5)
        terms["loss"].backward()
        loss = loss or float(terms["loss"])
        method.zero_grad()
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"GB": round((peak - before) / 1e6, 2), "seconds": round(seconds, 1), "loss": loss}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--part", type=int, default=256)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--method", nargs="+", default=["barlow_twins", "twist"])
    parser.add_argument("--one", choices=["whole", "parts"], help="this process takes one side's step")
    given = parser.parse_args()
    if given.one:
        part = given.part if given.one == "parts" else None
        print(json.dumps(step(given.method[0], given.batch, part, given.side, given.threads)))
        return
    for name in given.method:
        found: dict[str, Any] = {}
        for side in ("whole", "parts"):
            words = [sys.executable, __file__, *sys.argv[1:], "--method", name, "--one", side]
            found[side] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        ratio = found["parts"]["seconds"] / found["whole"]["seconds"]
        print(json.dumps({"method": name, "batch": given.batch, "part": given.part, **found, "times": round(ratio, 2)}))


if __name__ == "__main__":
    main()
