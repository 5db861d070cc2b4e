"""gemel doctor: what is right is said, and each planted fault is found with what to do about it."""

import importlib.util
import os
import shutil
import signal
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from gemel import launcher
from gemel.cli.main import main
from gemel.engine import doctor
from gemel.engine.doctor import Finding

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def levels(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    return [(one.level, one.what) for one in findings]


def test_nothing_is_wrong_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    needs = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: needs)  # the installed list may be an older one
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    printed = capsys.readouterr().out
    assert left.value.code == 0, printed
    assert printed.endswith("\nnothing is wrong\n")
    for name in ("gemel", "python", "packages", "torch", "device", "cores", "memory", "views", "weights"):
        assert f"ok     {name} " in printed, name
    assert torch.__version__ in printed
    assert list(tmp_path.iterdir()) == [], "nothing stays"


def test_a_fault_leaves_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = [Finding("ok", "torch", "3.0"), Finding("wrong", "numpy", "is missing", "pip install numpy")]
    monkeypatch.setattr(doctor, "examine", lambda: found)
    with pytest.raises(SystemExit) as left:
        main(["doctor"])
    assert left.value.code == 1
    assert "wrong  numpy  is missing; pip install numpy\n\n1 of 2 checks failed\n" in capsys.readouterr().out


def test_packages_out_of_range(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["numpy>=999", "no-such-package>=1", "pytest", 'no-such-other; python_version < "3"', 'x; extra == "y"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: needs)
    wrong = [one.text for one in doctor._packages() if one.level == "wrong"]
    assert [text.partition(",")[0].split()[0] for text in wrong] == ["numpy", "no-such-package"]
    assert "gemel needs >=999" in wrong[0]


def test_an_extra_is_there_with_all_of_its_packages() -> None:
    needs = [Requirement('pytest; extra == "a"'), Requirement('no-such; extra == "b"'), Requirement("numpy>=999")]
    assert doctor._has("a", needs)
    assert not doctor._has("b", needs)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here torch finds the GPU")
def test_a_driver_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    for built in (None, "13.0"):
        monkeypatch.setattr(torch.version, "cuda", built)
        (found,) = doctor._devices()
        assert (found.level, found.what) == ("wrong", "device")
        assert ("built for CPUs" in found.text) is (built is None)


def test_torch_and_torchvision_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    def missing(*tensors: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", missing)
    (found,) = doctor._torch()
    assert found.level == "wrong"
    assert "operator torchvision::nms does not exist" in found.text


def test_contradicting_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert levels(doctor._processes()) == [("wrong", "processes")]


def test_a_container_with_less_time_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "cores", lambda: 8)
    monkeypatch.setattr(doctor, "_quota", lambda: 2.5)
    notes = [one for one in doctor._cores() if one.level == "note"]
    assert notes[0].advice == "give --threads 2 --workers 1"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is a folder in which nobody can make one")
def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")
    assert levels(doctor._folders()) == [("note", "this folder")]


def test_a_system_without_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has neither SIGUSR1 nor sysconf."""
    monkeypatch.delattr(signal, "SIGUSR1", raising=False)
    monkeypatch.delattr(os, "sysconf", raising=False)
    spec = importlib.util.spec_from_file_location("launcher_elsewhere", launcher.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.REQUEUE is None
    assert 0 < module.memory() <= module.UNKNOWN_MEMORY
