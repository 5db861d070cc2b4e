"""What the same bits on any number of processes cost: seconds of a step with the batch in shares, beside it as a whole.

    python benchmarks/shares.py [--shares 6] [--batch 252] [--rounds 15] [--threads 2] [--method barlow_twins twist]

Random images, two views, the method's own small heads, forward and backward of one process, the two sides in turn; the
median of the ratios of neighbouring steps, and of the seconds.
"""

import argparse
import json
import statistics
import time
from contextlib import nullcontext

import torch
from torch import nn

from gemel import methods
from gemel.backbones.base import Backbone
from gemel.backbones.convnet import convnet
from gemel.backbones.timm import timm_backbone
from gemel.data.plan import Batch
from gemel.engine.in_shares import Shares
from gemel.methods.base import Method

NETWORKS = {"convnet, 16 pixels": 16, "resnet18, 32 pixels": 32, "resnet18, 64 pixels": 64}


def seconds(method: Method, batch: Batch, shares: Shares | None) -> float:
    """Return the time of a forward and backward pass."""
    begin = time.perf_counter()
    with nullcontext() if shares is None else shares.shown():
        method(batch, 0.5)["loss"].backward()
    method.zero_grad()
    return time.perf_counter() - begin


def backbone_of(name: str, side: int) -> Backbone:
    network = convnet() if name.startswith("convnet") else timm_backbone("resnet18", side)
    for norm in [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]:
        nn.init.ones_(norm.weight)  # timm's last one of a block is 0: no gradient would pass it
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def compared(name: str, network: str, given: argparse.Namespace) -> dict[str, object]:
    """Return the medians of both sides."""
    torch.manual_seed(0)
    side, kind = NETWORKS[network], methods.find(name)
    method = kind(backbone_of(network, side), **kind.recipes["small"].method)
    images = torch.randn(given.batch, 3, side, side).contiguous(memory_format=torch.channels_last)
    batch = Batch([images, images.flip(3)], torch.arange(given.batch), torch.full((given.batch,), -1))
    method.attach(given.batch)
    both = [None, Shares(given.shares, given.batch // given.shares)]
    times = [[seconds(method, batch, one) for one in both] for _ in range(given.rounds + 1)][1:]
    whole, shared = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(shared / whole for whole, shared in times)
    facts = {"whole": round(whole, 4), "in shares": round(shared, 4), "ratio": round(ratio, 2)}
    return {"method": name, "network": network, **facts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", type=int, default=6)
    parser.add_argument("--batch", type=int, default=252)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--method", nargs="+", default=["barlow_twins", "twist"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for name in given.method:
        for network in NETWORKS:
            print(json.dumps(compared(name, network, given)), flush=True)


if __name__ == "__main__":
    main()
