"""--unique: duplicates play no part in training, and everything else is of all images."""

import io
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import gemel
from check_images import jpeg, write_parts
from conftest import TINY, freeze
from gemel.data.sources import open_source
from gemel.engine import checkpoints
from gemel.errors import Interrupted, UserError
from gemel.request.resolve import continued, follow, prepare
from gemel.request.validate import asked_for
from gemel.runs.run import Run
from gemel.settings.tree import layer_of_call

SMALL: dict[str, Any] = {
    **TINY, "method": {"name": "twist", "hidden": 16}, "epochs": 3, "image_size": 16, "batch_size": 8,
    "views": {"name": "photo", "local_count": 0}, "classes": 4,
}  # fmt: skip


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty parts; ten copies and ten small ones, whose names come first."""
    folder = write_parts(tmp_path / "photos")
    for number in range(10):
        shutil.copy(folder / f"{number:02}.jpg", folder / f"{number:02}-copy.jpg")
        image = Image.open(io.BytesIO((folder / f"{number + 20}.jpg").read_bytes()))
        (folder / f"{number + 20}-small.jpg").write_bytes(jpeg(image.resize((80, 80))))
    return folder


def weights(run: Run) -> dict[str, Any]:
    state = checkpoints.load(run)
    assert state is not None
    return state["method"]


def test_duplicates_are_left_out_of_training_alone(photos: Path, tmp_path: Path) -> None:
    run = gemel.pretrain(photos, out=tmp_path / "run", unique=True, **SMALL)
    assert run.settings["unique"] is True
    left_out = run.left_out()
    assert len(left_out) == 20
    source = open_source(photos)
    assert all(source.key(index) == name for index, name, _ in left_out)
    small = {f"{number + 20}-small.jpg" for number in range(10)}
    assert {name for _, name, _ in left_out} == small | {f"{number:02}.jpg" for number in range(10)}
    state = checkpoints.load(run)
    assert state is not None
    assert state["images"] == 40
    assert state["step"] == 3 * (40 // 8)
    classes = run.classes()
    assert classes is not None
    assert classes.num_rows == 60, "classes are of all images"
    found = run.check()
    assert found is not None
    assert found["counts"]["exact duplicate"] == found["counts"]["near duplicate"] == 10


def test_as_if_they_were_not_there(photos: Path, tmp_path: Path) -> None:
    run = gemel.pretrain(photos, out=tmp_path / "run", unique=True, **SMALL)
    for _, name, _ in run.left_out():
        (photos / name).unlink()
    alone = gemel.pretrain(photos, out=tmp_path / "alone", **SMALL)
    assert alone.settings["unique"] is False
    with pytest.raises(UserError, match="is missing"):
        alone.left_out()
    one, two = weights(run), weights(alone)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_heads_on_frozen_features_too(photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 5, "classes": 3, "threads": 1, "workers": 0, "train": "heads", "quiet": True}
    run = gemel.pretrain(photos, out=tmp_path / "run", unique=True, **options)
    classes = run.classes()
    assert classes is not None
    assert classes.num_rows == 60
    for _, name, _ in run.left_out():
        (photos / name).unlink()
    alone = gemel.pretrain(photos, out=tmp_path / "alone", **options)
    one, two = weights(run), weights(alone)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_vectors_are_no_images_to_compare(tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.npy"
    np.save(vectors, np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32))
    with pytest.raises(UserError, match="--unique compares images"):
        gemel.pretrain(vectors, out=tmp_path / "run", unique=True, quiet=True)
    with pytest.raises(UserError, match="holds vectors"):
        gemel.check(vectors)
    run = gemel.pretrain(vectors, out=tmp_path / "run", epochs=2, classes=2, threads=1, workers=0, quiet=True)
    assert run.check() is None


def test_resumed_with_the_same_images(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gemel.pretrain(photos, out=tmp_path / "whole", unique=True, **SMALL)
    out = tmp_path / "run"

    def interrupt() -> None:
        while not (out / "metrics.csv").is_file():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted):
        gemel.pretrain(photos, out=out, unique=True, **SMALL)
    thread.join()
    monkeypatch.setattr("gemel.request.resolve.duplicates_of", None)  # it is not searched again
    run = gemel.resume(out, quiet=True)
    one, two = weights(run), weights(whole)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_what_the_run_left_out_must_be_there_and_fit(photos: Path, tmp_path: Path) -> None:
    run = gemel.pretrain(photos, out=tmp_path / "run", unique=True, **SMALL)
    path = run.path / "left_out.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2].replace(lines[2].split(",")[0], "999"), *lines[3:]]) + "\n")
    with pytest.raises(UserError, match="holds other images"):
        continued(run, freeze)
    path.write_text("name,of\nx,y\nx,y\n")
    with pytest.raises(UserError, match=r"left_out\.csv is damaged"):
        continued(run, freeze)
    path.unlink()
    with pytest.raises(UserError, match=r"left_out\.csv is missing"):
        continued(run, freeze)


def test_other_processes_learn_from_the_same_images(photos: Path, tmp_path: Path) -> None:
    layer = layer_of_call({"images": str(photos), "out": str(tmp_path / "run"), "unique": True, **SMALL, "quiet": None})
    said: list[str] = []
    first = prepare(asked_for([layer]), said.append, freeze)
    assert "unique: 20 of 60 images are left out of training (duplicates of others)" in said
    other = follow(first.settings.model_dump(), first.identity, dict(first.left_out))
    assert len(other.learned) == len(first.learned) == 40
    assert [other.learned.path(row) for row in range(40)] == [first.learned.path(row) for row in range(40)]
    assert len(first.source) == 60
    np.testing.assert_array_equal(other.plan.rows(3), first.plan.rows(3))


def test_one_image_alone_is_no_dataset(tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "photos", 1)
    for number in range(12):
        shutil.copy(folder / "00.jpg", folder / f"{number}.jpg")
    with pytest.raises(UserError, match="--unique leaves one image"):
        gemel.pretrain(folder, out=tmp_path / "run", unique=True, **SMALL)
    assert not (tmp_path / "run").exists()
