"""Real images, small networks, fixed threads."""

import gc
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# A test run must not find or leave listings in the user's cache; set before gemel looks.
os.environ.setdefault("XDG_CACHE_HOME", str(Path(__file__).parent / ".cache"))

# pytest's workers share the cores: threads of numpy and scikit-learn would wait for each other's. Before these look.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits, load_sample_images
from torch import nn

import gemel
from gemel.api.explore import serving
from gemel.data.sources import Source, VectorSource
from gemel.evaluations.frozen_features import frozen_features
from gemel.explorer.server import ExplorerServer

torch.set_num_threads(1)

# Machines that run tests are noisy: no deadlines, and a slow first draw is no fault.
hypothesis_settings.register_profile(
    "gemel", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("gemel")


FIRST = ("test_processes.py", "test_kills.py", "test_contract.py", "test_two_processes.py", "test_fit.py",
         "test_features.py", "test_runner.py", "test_pretrain.py", "test_fuzz.py", "test_docs.py", "test_cli.py",
         "test_bad_input.py")  # fmt: skip
"""modules that start processes"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that pytest's workers end together; one of them then starts all the processes."""
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


def pytest_collection_finish() -> None:
    """Let the collector of cycles pass over all that was imported: it stays, and is long."""
    gc.freeze()


TINY = {
    "backbone": {"name": "convnet", "widths": [8, 16], "strides": [2, 2], "pool": 1},
    "quiet": True,
    "workers": 0,
    "threads": 1,
}
"""settings of a run that takes seconds"""


@pytest.fixture(scope="session")
def golden() -> dict[str, torch.Tensor]:
    """Numbers of the authors' released code."""
    return load_file(Path(__file__).parent / "golden" / "official.safetensors")


@pytest.fixture(scope="session")
def relatives() -> dict[str, torch.Tensor]:
    """Numbers of the released code of eleven related methods, of LARS and of schedules, in float64."""
    return load_file(Path(__file__).parent / "golden" / "relatives_a.safetensors")


@pytest.fixture(scope="session")
def relatives_b() -> dict[str, torch.Tensor]:
    """Numbers of the released code of nine methods of clusters and information, and of two closed forms, in float64."""
    return load_file(Path(__file__).parent / "golden" / "relatives_b.safetensors")


@pytest.fixture(scope="session")
def official_layouts() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the tensors of the authors' released networks, heads made small."""
    return json.loads((Path(__file__).parent / "golden" / "official_layouts.json").read_text(encoding="utf-8"))


def freeze(network: nn.Module, facts: dict[str, Any], source: Source) -> VectorSource:
    """What a request is given for the features of a frozen network."""
    return frozen_features(network, facts, source, None)


def made_once(root: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that the first of pytest's workers that asks fills, for all of them."""
    shared = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with FileLock(shared / f"{name}.lock"):
        if not (shared / f"{name}.done").is_file():
            (shared / name).mkdir()
            make(shared / name)
            (shared / f"{name}.done").touch()
    return shared / name


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


@pytest.fixture(scope="module")
def more_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 photographs, for tests of several processes."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, 64)
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 photographs."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, 40)
    return folder


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> gemel.Run:
    """A short TWIST run on digits, to its end."""

    def make(folder: Path) -> None:
        gemel.pretrain("digits", out=folder / "run", epochs=3, method={"name": "twist", "hidden": 32}, **TINY)

    return _own_copy(made_once(tmp_path_factory.getbasetemp(), "digits_run", make), tmp_path_factory)


@pytest.fixture(scope="session")
def photos_run(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> gemel.Run:
    """A short Barlow Twins run on photographs, to its end."""
    out = tmp_path_factory.mktemp("runs") / "photos"
    method = {"name": "barlow_twins", "projector": [32, 32]}
    return gemel.pretrain(photos, out=out, epochs=2, method=method, image_size=32, batch_size=8, **TINY)


ODD_NAMES = (
    b"<img src=x onerror=document.title=1>.png",
    b"<script>document.title=1<!--.png",
    b"\"quotes' & `more`.png",
    "\u202eright to left \u05e9\u05dc\u05d5\u05dd.png".encode(),
    b"not utf-8 \xff\xfe.png",
    b"long" * 60 + b".png",
)


@pytest.fixture(scope="session")
def odd_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short TWIST run on 240 files, some of odd names."""

    def make(folder: Path) -> None:
        images = folder / "images" / "a"
        images.mkdir(parents=True)
        for number, digit in enumerate(load_digits().images[:240]):
            name = ODD_NAMES[number] if number < len(ODD_NAMES) else f"{number:04}.png".encode()
            pixels = (digit * 15.9).astype(np.uint8).repeat(2, 0).repeat(2, 1)
            Image.fromarray(pixels).save(images / os.fsdecode(name))
        method = {"name": "twist", "hidden": 32}
        gemel.pretrain(folder / "images", out=folder / "run", epochs=8, batch_size=32, classes=8, method=method, **TINY)

    return made_once(tmp_path_factory.getbasetemp(), "odd_run", make) / "run"


@pytest.fixture
def explored(odd_run: Path, tmp_path: Path) -> gemel.Run:
    """A copy of that run, which a test may edit."""
    return gemel.load(shutil.copytree(odd_run, tmp_path / "run"))


@pytest.fixture
def explorer_server(explored: gemel.Run) -> Iterator[ExplorerServer]:
    """The same run, served."""
    with serving(explored) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's chromium, headless."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="pages are tested where playwright is installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("pages are tested where chromium is installed")
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


def _own_copy(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> gemel.Run:
    """Each worker writes evaluations into its own."""
    own = tmp_path_factory.mktemp("runs") / "digits"
    shutil.copytree(folder / "run", own)
    return gemel.load(own)
