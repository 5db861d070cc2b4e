"""What stands is never taken unasked, and one process at a time trains in a run's folder."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

import gemel
from gemel.runs import folder as claims
from gemel.runs.folder import Claim, claim, create, held
from gemel.errors import UserError
from gemel.runs.run import Run


@pytest.mark.parametrize("kind", ["file", "folder", "run"])
def test_what_stands_is_not_taken(kind: str, tmp_path: Path) -> None:
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


def test_overwriting_clears_the_old_run(tmp_path: Path) -> None:
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    (run.path / "backbone.safetensors").write_bytes(b"old")
    assert not create(Claim(run.path, overwrite=True), "seed: 1\n").backbone_path.exists()
    assert run.settings == {"seed": 1}


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


def test_a_file_system_without_locks_refuses_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    monkeypatch.setattr(claims.fcntl, "flock", refuse)
    with held(run):
        pass
