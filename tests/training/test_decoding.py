"""A run decodes its images in one way, from the first look at them to the last evaluation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gemel
from conftest import TINY, freeze
from gemel.data.decode import load
from gemel.data.pixel_values import Decoding
from gemel.evaluations.run_protocol import images_of
from gemel.request.resolve import continued, follow, prepare
from gemel.request.validate import asked_for
from gemel.runs.run import Run
from gemel.settings.tree import layer_of_call
from gemel.training.prepared import Prepared

RANDOM = np.random.default_rng(0)
GRID = np.mgrid[:24, :24] / 24
WORDS: dict[str, Any] = {"epochs": 1, "batch_size": 4, "classes": 2, "image_size": 16, **TINY}


def write(folder: Path, white: int, *, brightness: float = 1.0, count: int = 8) -> Path:
    folder.mkdir()
    for number in range(count):
        wave = np.sin(2 * np.pi * (2 + number % 2 * 4) * GRID[number % 2] + number) / 2 + 0.5
        Image.fromarray((wave * white * brightness).astype(np.uint16)).save(folder / f"{number}.png")
    return folder


def icons(folder: Path, ink: int) -> Path:
    folder.mkdir()
    for number in range(8):
        pixels = np.full((24, 24, 4), ink, np.uint8)
        pixels[..., 3] = (np.hypot(*(GRID - 0.5)) < 0.2 + 0.02 * number) * 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def prepared(folder: Path, **words: Any) -> tuple[Prepared, list[str]]:
    lines: list[str] = []
    call = {key: value for key, value in (WORDS | words).items() if key != "quiet"}
    return prepare(asked_for([layer_of_call({"images": folder, **call})]), lines.append, freeze), lines


def test_a_run_keeps_its_white(tmp_path: Path) -> None:
    bright, dark = write(tmp_path / "bright", 4095), write(tmp_path / "dark", 4095, brightness=0.05)
    run = gemel.pretrain(bright, out=tmp_path / "run", **WORDS)
    assert (run.settings["white"], run.settings["background"]) == (4095, None)
    assert json.loads((run.path / "backbone.json").read_text())["white"] == 4095
    resumed = continued(Run(run.path), freeze).source
    assert resumed.decoding == Decoding(4095.0, floats=True, channels=3)
    assert follow(run.settings, _fingerprint(bright), {}).source.decoding == resumed.decoding
    for images in (None, dark):
        assert images_of(run, images, "none").decoding == resumed.decoding
    assert 12 < load(images_of(run, dark, "none"), 0).max() < 13
    result = gemel.evaluate(run, "knn", str(bright), test=str(dark), labels=_labels(tmp_path), k=2)
    assert result.settings["white"] == 4095
    (view, *_) = gemel.views([str(dark / "0.png")], run)
    assert view.max() - view.min() < 40  # 13 levels, stretched by the draw


def _fingerprint(folder: Path) -> str:
    from gemel.data.sources import open_source
    from gemel.data.sources.identity import fingerprint

    return fingerprint(open_source(folder))


def _labels(folder: Path) -> str:
    rows = [f"{images}/{number}.png,{number % 2}" for images in ("bright", "dark") for number in range(8)]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    return str(folder / "labels.csv")


def test_white_is_told_with_its_reason(tmp_path: Path) -> None:
    run, lines = prepared(write(tmp_path / "images", 1023))
    assert "white: 1023 (sampled images of 16 bits reach 1,023: 10 bits)" in lines
    assert not [line for line in lines if line.startswith(("black", "background", "warning"))]
    assert "pixels: floats (8 of 8 sampled images hold more than 8 bits)" in lines
    assert run.source.decoding == Decoding(1023.0, 0.0, floats=True, channels=3)
    assert (run.settings.pixels, run.settings.channels) == ("floats", 3)
    views = run.settings.views
    images = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "images").iterdir())]) / 1023
    assert (views.mean, views.std) == (pytest.approx([images.mean()] * 3), pytest.approx([images.std()] * 3, rel=1e-5))


def test_black_of_signed_images(tmp_path: Path) -> None:
    for number in range(8):
        values = RANDOM.uniform(-1000, 3000, (24, 24)).astype(np.float32)
        Image.fromarray(values).save(tmp_path / f"{number}.tif")
    run, lines = prepared(tmp_path)
    assert len([line for line in lines if line.startswith(("white", "black"))]) == 2
    black, white = run.settings.black, run.settings.white
    assert black == pytest.approx(-1000, abs=10)
    assert white == pytest.approx(3000, abs=10)
    assert run.source.decoding == Decoding(white, black, floats=True, channels=3)


def test_a_wrong_white_is_noticed(tmp_path: Path) -> None:
    images = write(tmp_path / "images", 1023)
    run, lines = prepared(images, white=65535)
    assert run.settings.white == 65535
    (warning,) = (line for line in lines if line.startswith("warning"))
    assert warning.startswith("warning: 8 of 8 sampled images are nearly black; check --white")
    with pytest.raises(gemel.UserError, match="white 3 must be greater than black 4"):
        prepared(images, white=3, black=4)


def test_backgrounds(tmp_path: Path) -> None:
    run, lines = prepared(icons(tmp_path / "dark", 0))
    assert run.settings.background == "white"
    assert "background: white (alpha channel in 8 of the sampled images)" in lines
    run, lines = prepared(icons(tmp_path / "light", 255))
    assert run.settings.background == "black"
    assert "background: black (over white 8 of 8 sampled images with an alpha channel vanish)" in lines
    run, lines = prepared(tmp_path / "light", background="250, 250,250")
    assert run.source.decoding.background == (250, 250, 250)
    assert any(line.startswith("warning: 8 of 8 sampled images are nearly white; check --background") for line in lines)
    with pytest.raises(gemel.UserError, match="background must be white, black, grey or three numbers from 0 to 255"):
        prepared(tmp_path / "light", background="pink")


def test_eight_bits_have_no_white(tmp_path: Path) -> None:
    for number in range(8):
        Image.fromarray(RANDOM.integers(0, 256, (24, 24, 3), np.uint8)).save(tmp_path / f"{number}.png")
    run, lines = prepared(tmp_path)
    assert (run.settings.white, run.settings.black, run.settings.background) == (None, None, None)
    assert not [line for line in lines if line.startswith(("white", "black", "background", "warning"))]
