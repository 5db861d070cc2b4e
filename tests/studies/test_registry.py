"""Every study in the folder: its settings exist, its rows and its published numbers are there."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import gemel
from gemel import published, studies
from gemel.api.several_runs import begin_or_resume
from gemel.cli.main import main
from gemel.errors import UserError
from gemel.runs.files import write_text
from gemel.runs.folder import Claim, create
from gemel.runs.run import RUN_FILE, Run
from gemel.settings.tree import Layer
from gemel.studies.base import score_of
from gemel.studies.plan import StudyLaunch, check_settings, plan
from gemel.studies.runner import run_study


@pytest.mark.parametrize("name", studies.available())
@pytest.mark.parametrize("full", [False, True], ids=["small", "full"])
def test_every_setting_exists(name: str, full: bool, tmp_path: Path) -> None:
    """Digits stand in for data that this machine may not have."""
    study = studies.find(name)
    planned = plan(study, StudyLaunch(full=full), tmp_path, Layer({"images": "digits"}, "call"))
    check_settings(planned, study)
    assert len({one.folder for one in planned}) == len(planned)
    assert all(re.fullmatch(r"[\w.-]+", one.variation.name) for one in planned)


@pytest.mark.parametrize("name", studies.available())
def test_a_study_is_whole(name: str) -> None:
    study = studies.find(name)
    assert study.question.endswith("?")
    assert study.seeds >= 3
    assert all(published.rows(**wanted) for wanted in study.published)
    if study.axis:
        assert all(one.x is not None for scale in (study.small, study.full) for one in scale.variations)


@pytest.mark.parametrize("name", studies.available())
def test_dry_run_writes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    computes = studies.find(name).compute is not None
    with pytest.raises(SystemExit) as left:
        main(["study", name, "--dry-run", "--seeds", "1", *(() if computes else ("--set", "workers=0"))])
    assert left.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(studies.find(name).small.variations)
    assert computes or all("workers 0" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_study() -> None:
    with pytest.raises(UserError, match="did you mean epochs"):
        studies.find("epoch")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["study"], "NAME missing"),
        (["study", "epochs", "--set", "epochs"], "give --set KEY=VALUE"),
        (["study", "epochs", "--seeds", "0"], "--seeds must be greater than or equal to 1"),
        (["study", "epochs", "--epochs", "3"], "--epochs is what the study varies"),
    ],
)
def test_mistakes_in_words(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--dry-run"]], ids=["whole", "dry"])
def test_a_run_s_folder_is_no_study_s(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    with pytest.raises(SystemExit) as left:
        main(["study", "epochs", "--images", "digits", "--out", str(run.path), *words])
    assert left.value.code == 2
    assert "holds a run; a study needs a folder of its own" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["run", "run.yaml"]


def test_several_processes_start_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(SystemExit) as left:
        main(["study", "epochs", "--images", "digits", "--dry-run"])
    assert left.value.code == 2
    assert "start gemel study as one process" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_images_without_labels_are_refused_before_the_runs(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no labels to judge by; give --labels folders or FILE"):
        gemel.study("barlow-lambda", images=photos, seeds=1, out=tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["plan.json", "failed.json"])
def test_a_study_s_damaged_file_is_named(file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text('{"short-1')
    with pytest.raises(UserError, match=f"{file} is damaged"):
        run_study("epochs", studies.find("epochs"), StudyLaunch(out=str(tmp_path), dry_run=True),
                  Layer({"images": "digits"}, "call"), print, begin_or_resume)  # fmt: skip


def test_help_lists_the_studies(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["study", "--help"])
    out = capsys.readouterr().out
    assert all(name in out for name in studies.available())
    assert "--seeds" in out


def test_a_computed_study_writes_its_table(tmp_path: Path) -> None:
    """Without runs: numbers by seed and variation, made once."""
    study = studies.find("infomax")
    few = study.small._replace(variations=study.small.variations[:2])
    study, launch = replace(study, small=few, checks=()), StudyLaunch(out=str(tmp_path), seeds=2)
    said: list[str] = []
    found = run_study("infomax", study, launch, Layer({}, "call"), said.append, begin_or_resume)
    assert [len(row.values["bias"]) for row in found.rows] == [2, 2]
    assert "| 2 |" in (tmp_path / "infomax.md").read_text(encoding="utf-8")
    run_study("infomax", study, launch, Layer({}, "call"), said.append, begin_or_resume)
    assert [("was there" in line) for line in said] == [False] * 4 + [True] * 4


def test_a_column_reads_another_network_s_result(tmp_path: Path) -> None:
    (tmp_path / RUN_FILE).touch()
    result = {"protocol": "cluster", "metrics": {"kmeans_acc": 0.5}, "settings": {}}
    write_text(tmp_path / "networks" / "pixels" / "evaluations" / "cluster-1.json", json.dumps(result))
    run = Run(tmp_path)
    assert score_of("pixels", "cluster", "kmeans_acc")(run) == 0.5
    assert score_of(lambda _: "pixels", "cluster", "kmeans_acc")(run) == 0.5
    assert score_of("random-0", "cluster", "kmeans_acc")(run) is None
    assert score_of("pixels", "cluster", "acc")(run) is None
