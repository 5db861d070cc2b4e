"""A run on files of odd names, and a browser, shared by the tests of the explorer."""

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import gemel
from conftest import TINY, made_once
from gemel.api.explore import serving
from gemel.explorer.server import ExplorerServer

ODD_NAMES = (
    b"<img src=x onerror=document.title=1>.png",
    b"</script><script>document.title=1<!--.png",
    b"\"quotes' & `more`.png",
    "\u202eright to left \u05e9\u05dc\u05d5\u05dd.png".encode(),
    b"not utf-8 \xff\xfe.png",
    b"long" * 60 + b".png",
)


@pytest.fixture(scope="session")
def odd_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short TWIST run on 240 files, some of odd names; `images` lies beside it."""

    def make(folder: Path) -> None:
        images = folder / "images"
        (images / "a").mkdir(parents=True)
        for number, digit in enumerate(load_digits().images[:240]):
            name = ODD_NAMES[number] if number < len(ODD_NAMES) else f"{number:04}.png".encode()
            pixels = (digit * 15.9).astype(np.uint8).repeat(2, 0).repeat(2, 1)
            Image.fromarray(pixels).save(os.fsdecode(os.path.join(os.fsencode(images / "a"), name)))  # noqa: PTH118
        method = {"name": "twist", "hidden": 32}
        gemel.pretrain(images, out=folder / "run", epochs=8, batch_size=32, classes=10, method=method, **TINY)

    return made_once(tmp_path_factory.getbasetemp(), "odd_run", make) / "run"


@pytest.fixture
def run(odd_run: Path, tmp_path: Path) -> gemel.Run:
    """A copy of the run that a test may edit."""
    return gemel.load(shutil.copytree(odd_run, tmp_path / "run"))


@pytest.fixture
def server(run: gemel.Run) -> Iterator[ExplorerServer]:
    """The run, served."""
    with serving(run) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's chromium, headless."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the pages are tested where playwright is installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("the pages are tested where chromium is installed")
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()
