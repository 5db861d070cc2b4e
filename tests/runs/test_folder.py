"""What is there is never taken unasked, foreign files are never removed, one process at a time trains in a folder."""

import errno
import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gemel
from gemel.errors import UserError
from gemel.runs.folder import Claim, claim, create, held
from gemel.runs.run import Run


@pytest.mark.parametrize("kind", ["file", "folder", "run"])
def test_what_is_there_is_not_taken(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    else:
        create(Claim(path), "seed: 0\n")
    for overwrite in (False, True):
        if kind == "run" and overwrite:
            assert claim(str(path), "twist", overwrite=True) == Claim(path, overwrite=True)
        else:
            with pytest.raises(UserError):
                claim(str(path), "twist", overwrite=overwrite)


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() or path.is_symlink()}


def test_overwriting_removes_gemels_own_files_only(digits_run: Run, tmp_path: Path) -> None:
    """Of a whole run, with results of other networks and cached features; nothing of its own stays."""
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    for path in digits_run.path.rglob("*"):
        if path.is_file() and path.name not in ("run.yaml", ".lock"):
            (run.path / path.relative_to(digits_run.path)).parent.mkdir(parents=True, exist_ok=True)
            (run.path / path.relative_to(digits_run.path)).write_bytes(path.read_bytes())
    gemel.evaluate(run, "knn", "digits", network="pixels", k=1)
    gemel.export(run, "safetensors")
    fill(run.path, "classes.yaml", "official.pth", "checkpoints/.1234.5.part", "evaluations/.fit-0123.ckpt")
    assert {"backbone.safetensors", "convnet.safetensors", "convnet.json"} <= files(run.path)
    assert any(name.startswith("networks/pixels/cache/features/") for name in files(run.path))
    foreign = {
        *("photos/0001.jpg", "notes.txt", "features.parquet", "evaluations/mine.png", "checkpoints/epoch-3.ckpt"),
        *("cache/features/mine/a.npy", "networks/pixels/b.txt", "tensorboard/c.txt", "mine.onnx", "resnet18.pth"),
    }
    fill(run.path, *foreign)
    again = create(Claim(run.path, overwrite=True), "seed: 1\n")
    assert files(again.path) == {*foreign, "run.yaml", ".lock"}
    assert again.settings == {"seed": 1}
    assert not (again.path / "cache/finetune").exists() and not (again.path / "networks/random-0").exists()


def test_overwriting_never_follows_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    fill(elsewhere, "knn-1.json", "last.ckpt", "a.json")
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    (run.path / "evaluations").symlink_to(elsewhere)
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints/last.ckpt").symlink_to(elsewhere / "last.ckpt")
    fill(run.path, "backbone.safetensors")
    facts = {"name": "../elsewhere/a", "options": {}, "width": 1, "size": 1, "mean": [], "std": [], "views": "glyph"}
    run.write_json("backbone.json", facts)
    create(Claim(run.path, overwrite=True), "seed: 1\n")
    assert files(elsewhere) == {"knn-1.json", "last.ckpt", "a.json"}
    assert files(run.path) == {"run.yaml", ".lock", "evaluations"}
    run.write_json("backbone.json", facts)
    fill(run.path, "backbone.safetensors")
    with pytest.raises(UserError, match=r"backbone\.json is damaged: name missing"):
        gemel.export(run, "safetensors")


@pytest.mark.parametrize("what", ["photos", "labels.csv", ".", "link"])
def test_a_folder_that_holds_an_input_is_not_overwritten(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    fill(run.path, "photos/a.jpg", "labels.csv")
    (tmp_path / "link").symlink_to(run.path / "photos")
    given = what if what == "link" else f"run/{what}"
    with pytest.raises(UserError, match=r"--overwrite replaces --out run, in which .+ lies; name another folder"):
        claim("run", "twist", overwrite=True, inputs=["digits", None, given])
    (tmp_path / "other").mkdir()
    assert claim("run", "twist", overwrite=True, inputs=["digits", None, "other", "nowhere/x"]).overwrite
    assert (run.path / "photos/a.jpg").is_file()


def test_what_another_process_made_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both claims are made before either folder is."""
    monkeypatch.chdir(tmp_path)
    one, two = (claim(None, "twist", overwrite=False) for _ in range(2))
    assert one == two == Claim(Path("runs/twist-1"), numbered=True)
    assert [create(claimed, "seed: 0\n").path.name for claimed in (one, two)] == ["twist-1", "twist-2"]
    named = claim("mine", "twist", overwrite=False)
    create(named, "seed: 1\n")
    with pytest.raises(UserError, match="another process began a run in mine meanwhile; name another folder"):
        create(named, "seed: 2\n")
    assert Run("mine").settings == {"seed": 1}


@pytest.mark.parametrize("method", ["my[1]", "a*", "what?", "x-3", ".hidden", "tête", "a\\d", "-"])
def test_runs_of_any_name_are_counted(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = [create(claim(None, method, overwrite=False), "seed: 0\n").path.name for _ in range(3)]
    assert made == [f"{method}-1", f"{method}-2", f"{method}-3"]
    late = Claim(Path("runs") / f"{method}-1", numbered=True)
    assert create(late, "seed: 0\n").path.name == f"{method}-4"


def test_a_file_called_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="can't be written"):
        create(claim(None, "twist", overwrite=False), "seed: 0\n")


def test_a_run_in_training_is_left_alone(tmp_path: Path) -> None:
    """By a real process that holds it, until that is killed."""
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    code = (
        "import sys, time; from gemel.runs.folder import held; from gemel.runs.run import Run\n"
        "with held(Run(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(run.path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        half = run.path / ".last.ckpt.1.part"
        half.write_bytes(b"of the other process")
        with pytest.raises(UserError, match=r"another process is training .*run; wait for its end, or stop it first"):
            gemel.resume(run, quiet=True)
        with pytest.raises(UserError, match="another process is training"):
            create(Claim(run.path, overwrite=True), "seed: 1\n")
        process.kill()
    assert half.is_file()
    assert run.settings == {"seed": 0}
    with held(run):
        pass


def test_a_process_holds_a_folder_once(tmp_path: Path) -> None:
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    with held(run), pytest.raises(UserError, match="another process is training"), held(Run(run.path)):
        pass
    with held(run):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_refuses_nobody(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, "refused")

    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with held(run), held(run):
        pass
