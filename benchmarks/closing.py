"""Peak memory of the closing pass: many small images, many classes.

    python benchmarks/closing.py [--images 200000] [--classes 4096] [--width 64] [--labels 100] [--limit 1.5]

A tiny network learns for an epoch; then the closing pass over synthetic images (noise around a pattern for each label)
runs in a process of its own. Prints what the process held at most, file pages that it had mapped included, as JSON;
fails above the limit (GB). The default takes minutes on two cores.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

SIDE = 8


def prepare(folder: Path, classes: int, width: int) -> None:
    """Train a run with so many classes on digits."""
    import gemel

    gemel.pretrain(
        "digits",
        out=folder,
        epochs=1,
        image_size=SIDE,
        batch_size=128,
        classes=classes,
        method={"name": "twist", "hidden": 64, "heads": 1},
        backbone={"name": "convnet", "widths": [16, width], "strides": [2, 2], "pool": 1},
        workers=0,
        threads=2,
        quiet=True,
    )


def measure(folder: Path, images: int, labels: int) -> dict[str, Any]:
    """Close the run over synthetic images in this process."""
    import torch

    import gemel
    from gemel.data.sources import ArraySource
    from gemel.evaluations.after_training import close

    torch.set_num_threads(2)
    random = np.random.default_rng(0)
    kinds = random.integers(0, labels, images)
    patterns = random.integers(0, 200, (labels, SIDE, SIDE), np.uint8)
    pixels = patterns[kinds] + random.integers(0, 56, (images, SIDE, SIDE), np.uint8)
    source = ArraySource("synthetic", pixels)
    source.labels, source.label_names = kinds, [str(kind) for kind in range(labels)]
    run, started, before = gemel.load(folder), time.perf_counter(), peak()
    seen = close(run, source)
    assert seen.top is not None
    return {
        "images": images,
        "classes": seen.top.class_count,
        "width": seen.features.shape[1],
        "peak_gb": round(peak(), 2),
        "before_gb": round(before, 2),
        "all_probabilities_gb": round(4 * images * seen.top.class_count / 1e9, 2),
        "seconds": round(time.perf_counter() - started, 1),
    }


def peak() -> float:
    """Return the most memory that this process has held, GB: getrusage would count its parent's too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


def main() -> None:
    """Prepare, measure in a new process, compare with the limit."""
    parser = argparse.ArgumentParser()
    for name, default in (("images", 200_000), ("classes", 4096), ("width", 64), ("labels", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--limit", type=float, default=1.5)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.folder is not None:
        print(json.dumps(measure(given.folder, given.images, given.labels)))
        return
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        prepare(folder, given.classes, given.width)
        words = ["--folder", str(folder), "--images", str(given.images), "--labels", str(given.labels)]
        done = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found))
    if found["peak_gb"] > given.limit:
        raise SystemExit(f"{found['peak_gb']} GB, above {given.limit}")


if __name__ == "__main__":
    main()
