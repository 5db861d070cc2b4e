"""Images far from square, seen by a frozen network: squared, cropped or padded.

    python benchmarks/aspect.py

Parts of 14 photographs that packages ship, two to three times as long as high or the reverse; a kind is what one
photograph shows. Nearest neighbours that are of the same kind, and k-means (10 starts), on EfficientNet-Lite0's
features of each way to make 224 x 224 pixels of them.
"""

from collections.abc import Callable
from importlib.metadata import files

import numpy as np
import torch
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.datasets import load_sample_images
from vector_sets import PHOTOGRAPHS

from gemel.backbones.timm import timm_backbone
from gemel.data.normalise import Normalise
from gemel.engine.frozen import frozen
from gemel.engine.packaged_weights import normalisation, start_from_words
from gemel.metrics.clustering import clustering_scores

NETWORK, SIZE, PARTS = "tf_efficientnet_lite0", 224, 24


def parts() -> tuple[list[Image.Image], list[int]]:
    """Return parts of each photograph, and which photograph each is of."""
    shipped = {one.name: one for one in files("scikit-image") or () if one.name in PHOTOGRAPHS}
    photos = [np.asarray(Image.open(str(one.locate())).convert("RGB")) for _, one in sorted(shipped.items())]
    images: list[Image.Image] = []
    kinds: list[int] = []
    for kind, pixels in enumerate([*photos, *load_sample_images().images]):
        random = np.random.default_rng(kind)
        for _ in range(PARTS):
            short = int(random.integers(50, 90))
            long = min(int(short * random.uniform(2.0, 3.0)), *pixels.shape[:2])
            height, width = (short, long) if random.random() < 0.5 else (long, short)
            top = int(random.integers(0, pixels.shape[0] - height + 1))
            left = int(random.integers(0, pixels.shape[1] - width + 1))
            images.append(Image.fromarray(pixels[top : top + height, left : left + width]))
            kinds.append(kind)
    return images, kinds


def squared(image: Image.Image) -> Image.Image:
    return image.resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, share: float = 224 / 256) -> Image.Image:
    side = min(image.size) * share
    left, top = ((length - side) / 2 for length in image.size)
    return image.resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def cropped_little(image: Image.Image) -> Image.Image:
    return cropped(image, 1.0)


def padded(image: Image.Image) -> Image.Image:
    width, height = (max(1, round(length * SIZE / max(image.size))) for length in image.size)
    page = Image.new("RGB", (SIZE, SIZE), (255, 255, 255))
    page.paste(image.resize((width, height), Image.Resampling.BICUBIC), ((SIZE - width) // 2, (SIZE - height) // 2))
    return page


def main() -> None:
    images, kinds = parts()
    labels = np.array(kinds)
    network = timm_backbone(NETWORK, SIZE)
    start_from_words(network, NETWORK, "packaged")
    seen = normalisation(NETWORK, "packaged")
    assert seen is not None
    normalise, look = Normalise(seen.mean, seen.std), frozen(network.eval(), SIZE, images=4 * len(images))
    ways: tuple[Callable[[Image.Image], Image.Image], ...] = (squared, cropped, cropped_little, padded)
    for way in ways:
        batches = [images[start : start + 32] for start in range(0, len(images), 32)]
        with torch.inference_mode():
            pixels = ([torch.from_numpy(np.array(way(one))).permute(2, 0, 1) for one in batch] for batch in batches)
            features = torch.cat([look(normalise(torch.stack(batch))) for batch in pixels])
        unit = torch.nn.functional.normalize(features, dim=1)
        near = (unit @ unit.T).fill_diagonal_(-2).argmax(1).numpy()
        found = KMeans(labels.max() + 1, n_init=10, random_state=0).fit_predict(features.numpy())
        scores = clustering_scores(labels, found.astype(np.int64))
        print(f"{way.__name__}: 1-NN {(labels[near] == labels).mean():.3f}, k-means ACC {scores['acc']:.3f}, ", end="")
        print(f"NMI {scores['nmi']:.3f}")


if __name__ == "__main__":
    main()
