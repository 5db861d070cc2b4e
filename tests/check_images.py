"""Images for checks: parts of scikit-learn's photographs that do not overlap, and changed copies of them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

SIDE = 106


def parts(count: int = 40) -> list[Image.Image]:
    """Parts of both photographs, the most detailed ones first: skies tell nothing."""
    found = [
        photograph[top : top + SIDE, left : left + SIDE]
        for photograph in load_sample_images().images
        for top in range(0, 424, SIDE)
        for left in range(0, 636, SIDE)
    ]
    return [Image.fromarray(one) for one in sorted(found, key=lambda one: -float(one.std()))[:count]]


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def png(image: Image.Image, level: int = 6) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=level)
    return file.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def write_parts(folder: Path, count: int = 40) -> Path:
    return write(folder, {f"{number:02}.jpg": jpeg(image) for number, image in enumerate(parts(count))})


def pixels(images: list[Image.Image]) -> list[np.ndarray]:
    return [np.asarray(image) for image in images]
