"""What a step costs, beside its floor: one JSON line for each network and method.

    python benchmarks/step.py [--threads 2] [--only networks|whole|files|methods|multi_crop] [--rounds 3] [--steps 20]

networks: seconds: a whole step (views from memory, forward, backward, optimiser), median of several; views: of them,
the drawing of the batch's views in the same process; network: the same step on views that are ready; floor: the
network's multiplications at the rate of this machine's matrix product, measured in the same run.

whole: Barlow Twins' step of ResNet-18 at 64 pixels, projector 8192-8192-8192, batch 128, beside lightly's in Lightning
(`beside_lightly.py`): ratio of the images a second, and each one's peak memory. files: the same with three layers of
2048 from a folder of JPEGs of 500 x 375, which is made: ratio to lightly's loader and step on that folder, and share of
gemel's own speed on random tensors. methods: the whole step of every method that lightly has, heads as in the papers.
multi_crop: DINO and SwAV from those JPEGs with two views of 64 and six of 28 pixels; the share of the speed on random
tensors tells how far decoding and views are from costing nothing. The sides run in turn, each in a
process of its own; given is the median of rounds.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.flop_counter import FlopCounterMode

from gemel import backbones, methods
from gemel.data.batches import draw_views
from gemel.data.plan import Batch, Plan
from gemel.data.sources import open_source
from gemel.engine.devices import Devices
from gemel.engine.loop import Loop
from gemel.settings.recipes import AdamWOptimizer, GlyphViews, PhotoViews
from gemel.training.stages import Stage
from gemel.training.task import Pretraining

KINDS = ("barlow_twins", "byol", "densecl", "dino", "moco_v2", "simclr", "simsiam", "swav", "vicreg", "w_mse")
"""methods that lightly has"""

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
    task = Pretraining(method, Stage(0, "pretrain", views, AdamWOptimizer(), 100, 0), plan)
    loop = Loop(task, Devices(), save=lambda state: None, seconds=1e9)
    ready = draw_views(plan, 0, plan.rows(0).tolist()).batch

    def step(batch: Batch) -> None:
        loop.step(iter([batch]))

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


def write_jpegs(folder: Path, count: int) -> None:
    """Files of 500 x 375, quality 90, cut from two photographs, no two alike."""
    photographs, random = load_sample_images().images, np.random.default_rng(0)
    for number in range(count):
        photograph = Image.fromarray(photographs[number % 2])
        width = int(random.integers(300, 500))
        left, top = (
            int(random.integers(0, side - part)) for side, part in zip(photograph.size, (width, 300), strict=True)
        )
        image = photograph.crop((left, top, left + width, top + 300)).resize((500, 375), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=90)
        (folder / f"{number:05}.jpg").write_bytes(file.getvalue())


def side(name: str, asked: argparse.Namespace, *words: object) -> dict[str, float]:
    """Images a second and peak memory of one side, in a process of its own."""
    script = Path(__file__).with_name("beside_lightly.py")
    common = ("--steps", asked.steps, "--batch", asked.batch, "--threads", asked.threads, "--size", asked.size)
    done = subprocess.run(
        [str(word) for word in (sys.executable, script, name, *common, *words)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def beside(asked: argparse.Namespace, case: str, sides: dict[str, tuple[str, tuple[object, ...]]]) -> None:
    """Run the sides in turn; ratios are of gemel's to each other one's, round by round."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(asked.rounds):
        for name, (library, words) in sides.items():
            found[name].append(side(library, asked, *words))
    line: dict[str, Any] = {"case": case, "batch": asked.batch, "size": asked.size, "threads": asked.threads}
    for name, rounds in found.items():
        line[f"{name}_images_per_second"] = round(statistics.median(one["images_per_second"] for one in rounds), 2)
        line[f"{name}_peak_gb"] = round(statistics.median(one["peak_gb"] for one in rounds), 3)
    for name in list(found)[1:]:
        pairs = zip(found["gemel"], found[name], strict=True)
        ratios = [ours["images_per_second"] / other["images_per_second"] for ours, other in pairs]
        line[f"ratio_to_{name}"] = round(statistics.median(ratios), 3)
    print(json.dumps(line), flush=True)


def whole(asked: argparse.Namespace) -> None:
    words = ("--projector", *[asked.width or 8192] * 3)
    beside(asked, "whole", {"gemel": ("gemel", words), "lightly": ("lightly", words)})


def files(asked: argparse.Namespace) -> None:
    words = ("--projector", *[asked.width or 2048] * 3)
    with TemporaryDirectory() as folder:
        write_jpegs(Path(folder), asked.images)
        read = (*words, "--folder", folder, "--workers", asked.workers)
        beside(
            asked,
            "files",
            {"gemel": ("gemel", read), "lightly": ("lightly", read), "random_tensors": ("gemel", words)},
        )


def every_method(asked: argparse.Namespace) -> None:
    for name in asked.methods or KINDS:
        beside(asked, name, {library: (library, ("--method", name)) for library in ("gemel", "lightly")})


def multi_crop(asked: argparse.Namespace) -> None:
    with TemporaryDirectory() as folder:
        write_jpegs(Path(folder), asked.images)
        for name in asked.methods or ("dino", "swav"):
            words = ("--method", name, "--locals", 6)
            read = (*words, "--folder", folder, "--workers", asked.workers)
            sides = {"gemel": ("gemel", read), "lightly": ("lightly", read), "random_tensors": ("gemel", words)}
            beside(asked, f"{name}, 2 + 6 views", sides)


def networks(asked: argparse.Namespace) -> None:
    torch.set_num_threads(asked.threads)
    rate = matrix_rate()
    print(json.dumps({"threads": torch.get_num_threads(), "matrix_gflops": round(rate / 1e9, 1)}))
    for case in CASES:
        for name in OPTIONS:
            print(json.dumps(measure(name, case, rate)), flush=True)


def main() -> None:
    parts = {"networks": networks, "whole": whole, "files": files, "methods": every_method, "multi_crop": multi_crop}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=list(parts))
    parser.add_argument("--methods", nargs="+", help="of methods and multi_crop")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, help="of the projector's layers")
    parser.add_argument("--images", type=int, default=1280, help="files of the folder")
    parser.add_argument("--workers", type=int, default=1, help="of either loader")
    asked = parser.parse_args()
    for name, part in parts.items():
        if asked.only in (None, name):
            part(asked)


if __name__ == "__main__":
    main()
