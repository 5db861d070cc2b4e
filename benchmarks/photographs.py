"""A folder of photographs, timed from the command to its last line: one JSON line a run.

    python benchmarks/photographs.py [1000 10000] [--threads 2] [--rounds 1] [--folder build/photographs]

The folder holds so many JPEG files of 500 x 375 pixels: each shows parts of two of the photographs that packages ship,
side by side, at any size, turned and mirrored, so that hardly two are near duplicates. Features are cached nowhere
before. `lines` are the seconds at which the command said something. The floor: what the frozen network alone takes, by
`python benchmarks/frozen.py tf_efficientnet_lite0`, and decoding, 0.7 ms an image and core.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images
from vector_sets import PHOTOGRAPHS

SIZE = 500, 375
"""width and height, pixels"""

FRACTION = 0.3, 0.9
"""of a photograph's shorter side that a part shows"""

Photograph = NDArray[np.uint8]


def photographs() -> list[Photograph]:
    """Return what scikit-image and scikit-learn ship."""
    shipped = sorted((one for one in files("scikit-image") or () if one.name in PHOTOGRAPHS), key=lambda one: one.name)
    found = [np.asarray(Image.open(str(one.locate())).convert("RGB")) for one in shipped]
    return [*found, *load_sample_images().images]


def write(folder: Path, count: int) -> None:
    """Write so many JPEG files; those of a smaller count are the first of a larger one."""
    folder.mkdir(parents=True, exist_ok=True)
    given = photographs()
    for number in range(count):
        random = np.random.default_rng(number)
        chosen = random.choice(len(given), 2, replace=False).tolist()
        border = int(random.integers(150, SIZE[0] - 150))
        left, right = (
            _part(given[one], width, random) for one, width in zip(chosen, (border, SIZE[0] - border), strict=True)
        )
        Image.fromarray(np.concatenate([left, right], 1)).save(folder / f"{number:05}.jpg", quality=90)


def _part(photograph: Photograph, width: int, random: np.random.Generator) -> Photograph:
    side = int(min(photograph.shape[:2]) * random.uniform(*FRACTION))
    top, left = (int(random.integers(0, length - side + 1)) for length in photograph.shape[:2])
    cut = np.rot90(photograph[top : top + side, left : left + side], int(random.integers(4)))
    shown = Image.fromarray(np.ascontiguousarray(cut[:, :: int(random.choice([-1, 1]))])).resize((width, SIZE[1]))
    return np.asarray(shown)


def timed(command: Sequence[str], threads: int) -> tuple[float, list[tuple[float, str]]]:
    """Run a command with an empty cache; return its seconds, and when it said what."""
    lines: list[tuple[float, str]] = []
    with TemporaryDirectory() as cache:
        environment = os.environ | {"XDG_CACHE_HOME": cache, "OMP_NUM_THREADS": str(threads)}
        begun = time.perf_counter()
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append((round(time.perf_counter() - begun, 1), line.partition(" ")[0]))
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        return round(time.perf_counter() - begun, 1), lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=int, nargs="*", default=[1000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("build/photographs"))
    given = parser.parse_args()
    gemel = Path(sys.executable).with_name("gemel")
    for count in given.counts:
        images = given.folder / str(count)
        if not images.is_dir() or len(list(images.iterdir())) < count:
            write(images, count)
        for _ in range(given.rounds):
            with TemporaryDirectory() as out:
                command = [str(gemel), "pretrain", str(images), "--threads", str(given.threads), "--out", f"{out}/run"]
                seconds, lines = timed(command, given.threads)
            said = {word.rstrip(":"): second for second, word in lines if word.endswith(":")}
            print(
                json.dumps({"images": count, "threads": given.threads, "seconds": seconds, "lines": said}), flush=True
            )


if __name__ == "__main__":
    main()
