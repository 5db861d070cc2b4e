"""Photographs by default: heads on the features of a packaged network, from the choice to the commands."""

import html
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import gemel
from conftest import write_photos
from gemel.errors import UserError
from gemel.evaluations import features
from gemel.evaluations.frozen_features import prune
from gemel.evaluations.networks import open_subject
from gemel.reports.other_ways import other_ways
from gemel.training import kinds

SHORT: dict[str, Any] = {"epochs": 60, "classes": 2, "threads": 1, "workers": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of two photographs, by photograph in two folders, and one file that is none."""
    folder = tmp_path_factory.mktemp("images")
    write_photos(folder, 80)
    (folder / "a" / "0001.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> gemel.Run:
    out = tmp_path_factory.mktemp("frozen") / "run"
    return gemel.pretrain(folder, out=out, labels="folders", quiet=True, **SHORT)


def test_what_is_chosen(run: gemel.Run) -> None:
    chosen = run.settings
    assert (chosen["train"], chosen["weights"], chosen["image_size"]) == ("heads", "packaged", 224)
    assert chosen["backbone"]["name"] == "tf_efficientnet_lite0"
    assert (chosen["views"]["name"], chosen["views"]["mean"]) == ("vectors", [0.5, 0.5, 0.5])
    facts = json.loads((run.path / "environment.json").read_text())
    assert facts["weights"]["licence"] == "Apache-2.0"
    facts = run.backbone_facts
    assert (facts["name"], facts["width"], facts["views"]) == ("tf_efficientnet_lite0", 1280, "photo")
    assert facts["crop"] == "whole"


def test_classes_are_the_photographs(run: gemel.Run, folder: Path) -> None:
    scores = {result["protocol"]: result["metrics"] for result in run.evaluations()}
    assert scores["cluster"]["acc"] > 0.9
    assert run.rejected().num_rows == 1
    table = gemel.classify(run, folder)
    assert set(table["class"].to_pylist()) == {0, 1}
    assert table.num_rows == 79


def test_features_are_the_networks_own(run: gemel.Run, folder: Path) -> None:
    encoder = gemel.backbone(run)
    assert encoder(torch.zeros(1, 3, 224, 224)).shape == (1, 1280)
    assert np.stack(gemel.embed(run, folder)["vector"].to_pylist()).shape == (79, 1280)
    subject = open_subject(run)
    assert subject.has_own_input
    with torch.no_grad():
        found = subject.classify(torch.zeros(3, 1280))
    assert found is not None and found.shape == (3, 2)


def test_the_network_is_frozen(run: gemel.Run) -> None:
    from gemel.backbones.timm import timm_backbone
    from gemel.engine.packaged_weights import start_from_words

    fresh = timm_backbone("tf_efficientnet_lite0", 224)
    start_from_words(fresh, "tf_efficientnet_lite0", "packaged")
    kept = gemel.backbone(run).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in fresh.state_dict().items())


def test_too_many_unreadable_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 of 80 images can't be read, above --max-rejected 0\.01; the first: .*0001"):
        gemel.pretrain(folder, out=tmp_path / "run", max_rejected=0.01, quiet=True, **SHORT)
    assert not (tmp_path / "run").exists()


def test_the_reason_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "STEPS", 30)  # what is told, not how well it was found
    gemel.pretrain(folder, out=tmp_path / "run", **{**SHORT, "epochs": 1, "classes": "auto"})
    told = capsys.readouterr().out
    assert "train: heads (photographs: classes on tf_efficientnet_lite0's features; --train all learns" in told
    assert "licence: Apache-2.0" in told
    assert "so many classes divide neighbours best, modularity" in told
    run = gemel.load(tmp_path / "run")
    found = run.kinds()
    assert found is not None and found["number"] == run.settings["classes"]
    page = run.report_path.read_text()
    assert "How many kinds?" in page and f"{found['number']} divide the graph of neighbours best" in page
    (run.path / "evaluations" / "kinds.json").write_text('{"number": 3}')
    gemel.report([run])
    page = run.report_path.read_text()
    assert "kinds.json is damaged" in page and "How many kinds?" not in page


def test_images_unlike_any_are_marked(run: gemel.Run, folder: Path, tmp_path: Path) -> None:
    known = gemel.classify(run, folder)
    assert sum(known["unlike"].to_pylist()) <= 1
    assert sum(gemel.classify(run, load_digits().images[:50].astype(np.uint8) * 15)["unlike"].to_pylist()) > 40
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    (copy / "evaluations" / "familiar.npz").write_bytes(b"PK damaged")
    with pytest.raises(UserError, match=r"familiar\.npz is damaged"):
        gemel.classify(copy, folder)
    (copy / "evaluations" / "familiar.npz").unlink()
    assert "unlike" not in gemel.classify(copy, folder).column_names


def test_a_folder_that_grew(run: gemel.Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run, on more images, has features made of the new ones alone."""
    seen: list[int] = []
    made = features.InferenceLoader

    def counted(*given: Any, **options: Any) -> Any:
        seen.append(len(options["indices"]))
        return made(*given, **options)

    monkeypatch.setattr(features, "InferenceLoader", counted)
    new = folder / "c"
    new.mkdir()
    shutil.copy(sorted(folder.glob("a/*.jpg"))[2], new / "copy.jpg")
    try:
        gemel.pretrain(folder, out=tmp_path / "run", quiet=True, **{**SHORT, "epochs": 1})
    finally:
        shutil.rmtree(new)
    assert seen == [2], "the new image, and the file that can't be read"


def test_the_report_says_which_way_was_better(run: gemel.Run, tmp_path: Path) -> None:
    """A folder beside it holds the same run as if all layers had learned, with an accuracy of 0.6."""
    here, beside = tmp_path / "heads", tmp_path / "all"
    shutil.copytree(run.path, here)
    shutil.copytree(run.path, beside)
    settings = (beside / "run.yaml").read_text()
    (beside / "run.yaml").write_text(settings.replace("train: heads", "train: all"))
    for result in (beside / "evaluations").glob("cluster-*.json"):
        found = json.loads(result.read_text())
        result.write_text(json.dumps(found | {"metrics": found["metrics"] | {"acc": 0.6}}))
    said = other_ways(gemel.load(here))
    assert len(said) == 2
    assert "about as good here" in said[0]
    assert said[1].endswith(
        "60.0 % by a network that learned all its layers (all); better here: heads on a frozen network"
    )
    assert said[1] in html.unescape(gemel.report([here]).read_text())
    shutil.rmtree(beside)
    assert other_ways(gemel.load(here)) == ()


def test_features_of_long_ago_are_deleted(tmp_path: Path) -> None:
    passes = [tmp_path / "network" / "cache" / "features" / name for name in ("oldest", "older", "newest")]
    for age, path in zip((30, 20, 10), passes, strict=True):
        path.mkdir(parents=True)
        (path / "features.npy").write_bytes(bytes(1000))
        (path / "done.json").write_text("{}")
        os.utime(path / "done.json", (1e9 - age, 1e9 - age))
    prune(tmp_path, most=3006)
    assert all(path.is_dir() for path in passes)
    prune(tmp_path, most=2500)
    assert [path.is_dir() for path in passes] == [False, True, True]
    prune(tmp_path, most=0)
    assert [path.is_dir() for path in passes] == [False, False, True]
