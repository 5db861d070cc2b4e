"""detection and segmentation as evaluations: results, files, trials, interruptions, words."""

import csv
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

import dense_layouts as layouts
from gemel import evaluations
from gemel.data.sources import open_source
from gemel.errors import Diverged, Interrupted, UserError
from gemel.evaluations import run_protocol
from gemel.evaluations.base import Evaluation, Subject
from narrow_resnets import narrow_backbone, narrow_resnet18

DETECTION: dict[str, Any] = {
    "recipe": "small", "steps": 6, "batch_size": 2, "lr": 0.01, "warmup": 2, "sizes": (64,), "test_size": 64,
    "channels": 8, "convs": 1, "width": 16, "rois": 16, "precise": 2,
}  # fmt: skip
SEGMENTATION: dict[str, Any] = {"recipe": "small", "steps": 6, "batch_size": 2, "lr": 0.01, "crop": 48, "channels": 8}


def subject(folder: Path, network: nn.Module | None = None) -> Subject:
    facts = {"name": "resnet50", "options": {}, "width": 64, "size": 64, "views": "photo", "mean": [0.5] * 3,
             "std": [0.25] * 3}  # fmt: skip
    return Subject(network or narrow_backbone(), facts, "narrow", folder)


def judge(
    protocol: Evaluation, network: Subject, tell: Callable[[int, int], None] | None = None
) -> tuple[dict[str, float], dict[str, Any]]:
    return protocol.run(network, open_source("digits"), None, tell=tell)


def detection(root: Path, **options: Any) -> Evaluation:
    return evaluations.make("detection", DETECTION | {"data": "boxes", "root": root} | options)


def segmentation(root: Path, **options: Any) -> Evaluation:
    return evaluations.make("segmentation", SEGMENTATION | {"data": "masks", "root": root} | options)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    layouts.boxes(root / "boxes", (4, 3))
    layouts.masks(root / "masks", (4, 3))
    layouts.voc(root / "voc", (4, 3))
    return root


def timeless(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "seconds"}


def test_detection_is_interrupted_and_goes_on(sets: Path, tmp_path: Path) -> None:
    network = subject(tmp_path / "one")
    before = {name: one.clone() for name, one in network.network.state_dict().items()}
    told: list[tuple[int, int]] = []
    metrics, settings = judge(detection(sets / "boxes"), network, lambda done, of: told.append((done, of)))
    assert told == [(done, 9) for done in range(1, 10)]
    assert all(torch.equal(one, before[name]) for name, one in network.network.state_dict().items())
    assert {"ap", "ap50", "ap75", "mask_ap", "mask_ap50"} <= metrics.keys()
    assert (settings["trained_images"], settings["judged_images"]) == (4, 3)
    assert settings["comparable"].startswith("no: no paper prints boxes; recipe small is no paper's; steps 6,")
    assert settings["falls"] == (4, 6) or settings["falls"] == [4, 6]
    assert not list((tmp_path / "one/evaluations").glob(".fit-*"))
    read_back(sets / "boxes/val.json", tmp_path / "one" / settings["predictions"] / "predictions.json", metrics)

    def stop(done: int, of: int) -> None:
        if done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    other = subject(tmp_path / "two")
    with pytest.raises(Interrupted, match="after step 3 of 6"):
        judge(detection(sets / "boxes"), other, stop)
    (state,) = (tmp_path / "two/evaluations").glob(".fit-*.ckpt")
    assert state.is_file()
    again: list[int] = []
    resumed, found = judge(detection(sets / "boxes"), other, lambda done, _: again.append(done))
    assert again[0] == 4
    assert resumed == metrics
    assert timeless(found) == timeless(settings)
    files = [tmp_path / name / settings["predictions"] for name in ("one", "two")]
    assert files[0].joinpath("predictions.json").read_text() == files[1].joinpath("predictions.json").read_text()
    logs = [list(csv.DictReader((file / "log.csv").read_text().splitlines())) for file in files]
    assert [row["loss"] for row in logs[0]] == [row["loss"] for row in logs[1]]
    assert [int(row["step"]) for row in logs[1]] == [1, 2, 3, 4, 5, 6]
    assert {"proposal_class", "proposal_box", "class", "box", "mask", "lr", "images_per_second"} <= logs[0][0].keys()


def read_back(truth: Path, predictions: Path, metrics: dict[str, float]) -> None:
    """pycocotools, given the two files, has the result's own numbers."""
    own = COCO(str(truth))
    assert json.loads(predictions.read_text())
    for kind, prefix in (("bbox", ""), ("segm", "mask_")):
        judged = COCOeval(own, own.loadRes(str(predictions)), kind)
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
        for name, value in zip(("ap", "ap50", "ap75"), judged.stats, strict=False):
            assert metrics[f"{prefix}{name}"] == pytest.approx(value, abs=1e-6)


def test_trials_are_kept(sets: Path, tmp_path: Path) -> None:
    """Seeds 1 and 2; the second one is interrupted, the first is not fitted again."""

    def stop(done: int, of: int) -> None:
        assert of == 12
        if done == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    options = {"steps": 3, "trials": 2, "seed": 1, "masks": False}
    with pytest.raises(Interrupted):
        judge(detection(sets / "boxes", **options), subject(tmp_path), stop)
    seen: list[int] = []
    metrics, settings = judge(
        detection(sets / "boxes", **options), subject(tmp_path), lambda done, _: seen.append(done)
    )
    assert seen[0] == 9
    assert {"ap", "ap_std"} <= metrics.keys()
    assert not any(name.startswith("mask") for name in metrics)
    folder = tmp_path / settings["predictions"]
    assert sorted(one.name for one in folder.iterdir()) == ["trial-1", "trial-2"]
    alone, _ = judge(detection(sets / "boxes", **options | {"trials": 1}), subject(tmp_path / "alone"))
    both = [json.loads(file.read_text())[1]["ap"] for file in (tmp_path / "cache/dense").iterdir()]
    assert alone["ap"] in both
    assert metrics["ap"] == pytest.approx(sum(both) / 2)


def test_detection_on_voc(sets: Path, tmp_path: Path) -> None:
    options = {"data": "voc0712", "root": sets / "voc", "steps": 2, "detector": "c4", "norm": "frozen"}
    metrics, settings = judge(detection(**options), subject(tmp_path))
    assert set(metrics) == {"ap", "ap50", "ap75", "ap50_area"}
    assert "aeroplane" in settings["classes_without_truth"]
    assert settings["comparable"].startswith("no: ")
    for reason in ("recipe small", "part of the set: 5 and 3 images", "detector c4, published fpn", "norm frozen"):
        assert reason in settings["comparable"]
    rows = json.loads((tmp_path / settings["predictions"] / "predictions.json").read_text())
    assert all(one["image_id"].startswith("2007_test") and 1 <= one["category_id"] <= 20 for one in rows)


def test_segmentation(sets: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    protocol = segmentation(sets / "masks", predictions=tmp_path / "png")
    metrics, settings = judge(protocol, subject(tmp_path), lambda done, of: told.append((done, of)))
    assert told == [(done, 9) for done in range(1, 10)]
    assert set(metrics) == {"miou", "pixel_accuracy", "mean_class_accuracy"}
    assert sum(map(sum, settings["confusion"])) == 3 * 64 * 64
    assert list(settings["class_iou"]) == ["nothing", *layouts.NAMES]
    counts = np.zeros((4, 4), int)
    for number in range(3):
        found = np.array(Image.open(tmp_path / "png" / f"{number}.png"))
        truth = np.array(Image.open(sets / "masks/labels/val" / f"{number}.png"))
        np.add.at(counts, (truth.ravel(), found.ravel()), 1)
    assert counts.tolist() == settings["confusion"]
    pictures = json.loads((tmp_path / settings["predictions"] / "pictures.json").read_text())
    assert len(pictures) == 3
    assert judge(protocol, subject(tmp_path)) == (metrics, settings)  # from what it left
    result = run_protocol.judge(subject(tmp_path), protocol, run_protocol.NO_IMAGES, None, labels="own")
    kept = json.loads((tmp_path / "evaluations" / f"{result.file_name}.json").read_text())
    assert (kept["metrics"], kept["settings"]["confusion"]) == (metrics, settings["confusion"])
    assert kept["options"]["root"] == str(sets / "masks")
    shutil.rmtree(tmp_path / "cache")
    again, _ = judge(protocol, subject(tmp_path))
    assert again == metrics


def test_segmentation_by_windows_and_middle(sets: Path, tmp_path: Path) -> None:
    root = tmp_path / "city"
    layouts.cityscapes(root)
    options = {"data": "cityscapes", "recipe": "twist", "root": root, "scale": "80,60", "crop": 48, "steps": 2}
    metrics, settings = judge(segmentation(**options), subject(tmp_path))
    assert (settings["test"], settings["align_corners"], list(settings["box"])) == ("windows", True, [80, 60])
    assert 0 <= metrics["miou"] <= 1
    metrics, settings = judge(segmentation(sets / "masks", recipe="byol", steps=2), subject(tmp_path))
    assert sum(map(sum, settings["confusion"])) == 3 * 48 * 48
    assert settings["stride"] == 16


def test_divergence_keeps_the_state(sets: Path, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="try a smaller --lr"):
        judge(detection(sets / "boxes", lr=1e30, warmup=0), subject(tmp_path))


def test_words(sets: Path, tmp_path: Path) -> None:
    for protocol, options, words in [
        ("detection", {}, "name a set with --data"),
        (
            "detection",
            {"data": "boxes", "root": sets / "boxes", "recipe": "nobody"},
            "'nobody' is unknown to detection",
        ),
        ("detection", {"data": "boxes", "root": sets / "boxes", "sizes": "16"}, "sizes"),
        ("segmentation", {"data": "digit-scenes", "scale": "100"}, "longer and the shorter"),
        ("segmentation", {"data": "digit-scenes", "recipe": "byol"}, "--lr"),
        ("segmentation", {"data": "digit-scenes", "crop": 8}, "crop"),
    ]:
        with pytest.raises(UserError, match=words):
            evaluations.make(protocol, options)
    flat = subject(tmp_path, nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 8)))
    with pytest.raises(UserError, match="a ResNet of four stages"):
        judge(detection(sets / "boxes"), flat)
    with pytest.raises(UserError, match="--masks"):
        judge(detection(sets / "voc", data="voc2007", masks=True), subject(tmp_path))
    with pytest.raises(UserError, match="moco has"):
        judge(detection(sets / "voc", data="voc2007", recipe="moco-2x"), subject(tmp_path))
    assert not list(tmp_path.iterdir())


def test_nothing_can_be_judged(sets: Path, tmp_path: Path) -> None:
    shutil.copytree(sets / "boxes", tmp_path / "boxes")
    for path in (tmp_path / "boxes/val").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match="none of the 3 images to be judged"):
        judge(detection(tmp_path / "boxes", steps=1), subject(tmp_path))


def test_missing_pycocotools(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools", None)
    with pytest.raises(UserError, match=r"pip install 'gemel\[dense\]'"):
        judge(detection(sets / "boxes"), subject(tmp_path))


def test_a_detector_learns(tmp_path: Path) -> None:
    """The quick recipe on twenty scenes, judged on the same ones."""
    layouts.boxes(tmp_path, (20, 1), 96)
    shutil.copytree(tmp_path / "train", tmp_path / "val", dirs_exist_ok=True)
    shutil.copy(tmp_path / "train.json", tmp_path / "val.json")
    torch.manual_seed(0)
    options = DETECTION | {
        "data": "boxes", "root": tmp_path, "steps": 150, "batch_size": 4, "lr": 0.02, "warmup": 50, "sizes": (96,),
        "test_size": 96, "channels": 32, "width": 128, "rois": 32, "precise": 20, "masks": False,
    }  # fmt: skip
    network = subject(tmp_path, narrow_resnet18())
    metrics, _ = judge(evaluations.make("detection", options), network)
    assert metrics["ap50"] > 0.8
