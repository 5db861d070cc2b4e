"""Real images, small networks, fixed threads."""

import os
from pathlib import Path

# A test run must not find or leave listings in the user's cache; set before gemel looks.
os.environ.setdefault("XDG_CACHE_HOME", str(Path(__file__).parent / ".cache"))

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_sample_images

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden() -> dict[str, torch.Tensor]:
    """Numbers of the authors' released code."""
    return load_file(Path(__file__).parent / "golden" / "official.safetensors")


def write_photos(folder: Path, count: int, *, side: tuple[int, int] = (160, 120), seed: int = 0) -> list[Path]:
    """JPEGs cut from scikit-learn's two photographs, in nested folders a and b/c."""
    photographs = load_sample_images().images
    random = np.random.default_rng(seed)
    width, height = side
    paths: list[Path] = []
    for number in range(count):
        photograph = photographs[number % 2]
        top = int(random.integers(0, photograph.shape[0] - height))
        left = int(random.integers(0, photograph.shape[1] - width))
        path = folder / ("a" if number % 2 else "b/c") / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph[top : top + height, left : left + width]).save(path, quality=90)
        paths.append(path)
    return paths


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 photographs."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, 40)
    return folder
