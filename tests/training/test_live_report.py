"""The report while a run is trained, and after an interruption."""

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

import gemel
from conftest import TINY
from gemel.api.watch import watch
from gemel.cli.main import main
from gemel.errors import Interrupted
from gemel.runs.live import Live, read_live, write_live
from gemel.runs.run import LIVE
from gemel.training import live_report


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages from the first step on, after each."""
    for name in ("FIRST", "EVERY"):
        monkeypatch.setattr(live_report, name, 0.0)
    monkeypatch.setattr(live_report, "SHARE", 1e9)


def test_a_run_tells_how_far_it_is_and_why_it_stopped(
    tmp_path: Path, photos: Path, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[str] = []
    write = live_report.build_report

    def watched(runs: list[gemel.Run]) -> Path:
        path = write(runs)
        pages.append(path.read_text(encoding="utf-8"))
        if len(pages) == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        return path

    monkeypatch.setattr(live_report, "build_report", watched)
    out = tmp_path / "run"
    small: dict[str, Any] = {"method": {"name": "twist", "hidden": 16}, "classes": 4, "image_size": 16, "batch_size": 8}
    with pytest.raises(Interrupted):
        gemel.pretrain(photos, out=out, epochs=4, **small, **TINY)
    assert "Step 1 of 20 (5.0 %)" in pages[0] and 'http-equiv="refresh"' in pages[0]
    assert "Classes below: of the images that the newest probe looked at." not in pages[0]
    assert "Classes below: of the images that the newest probe looked at." in pages[7] and "data:image/jpeg" in pages[7]
    assert "Interrupted" in pages[-1] and f"gemel resume {out}" in pages[-1] and "refresh" not in pages[-1]
    run = gemel.load(out)
    assert not run.is_finished
    monkeypatch.setattr(live_report, "build_report", write)
    gemel.resume(run, quiet=True)
    page = run.report_path.read_text(encoding="utf-8")
    assert run.is_finished and not (out / LIVE).exists() and "Interrupted" not in page
    assert 'href="explorer.html"' in page


def live(**facts: Any) -> Live:
    default = {"phase": "training", "pid": os.getpid(), "host": socket.gethostname(), "updated": 0.0, "every": 10.0}
    return Live.model_validate(default | facts)


def test_whether_a_run_goes_on() -> None:
    assert live().goes_on and live(phase="closing").goes_on
    assert not live(phase="stopped").goes_on
    assert not live(pid=2**22 + 1).goes_on, "its process was killed"
    assert not live(host="elsewhere").goes_on, "it has not written for long"
    assert live(host="elsewhere", updated=time.time() - 100).goes_on


def test_watching_a_run_that_was_killed_and_ends(digits_run: gemel.Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "evaluations").mkdir(parents=True)
    for name in ("run.yaml", "metrics.csv", "backbone.safetensors", "backbone.json", "environment.json"):
        (folder / name).write_bytes((digits_run.path / name).read_bytes())
    run, told = gemel.load(folder), list[str]()
    write_live(run, "training", every=10.0, done=5, steps=10)
    found = read_live(run)
    assert found is not None
    (folder / LIVE).write_text(found.model_copy(update={"pid": 2**22 + 1}).model_dump_json())

    def tell(text: str) -> None:
        told.append(text)
        if len(told) == 1:
            assert "Interrupted" in run.report_path.read_text(encoding="utf-8") and not run.is_finished
            write_live(run, "closing", every=10.0, done=10, steps=10)
        elif len(told) == 2:
            assert "Training has ended" in run.report_path.read_text(encoding="utf-8")
            for name in ("explorer.html", "evaluations/map.parquet", "evaluations/gallery.json"):
                (folder / name).write_bytes((digits_run.path / name).read_bytes())
            (folder / LIVE).unlink()

    watch(run, None, tell, seconds=0.01)
    assert told[0].endswith(f"interrupted at step 5 of 10; gemel resume {folder} continues it")
    assert told[1].endswith("closing, step 10 of 10") and told[2].endswith("the run has ended")


def test_words_of_the_command(digits_run: gemel.Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["report", str(digits_run.path), str(digits_run.path), "--watch"])
    assert left.value.code == 2 and "--watch follows one run, and 2 were given" in capsys.readouterr().err
    (digits_run.path / LIVE).write_text("{}")
    try:
        page = gemel.report([digits_run]).read_text(encoding="utf-8")
        assert "live.json is damaged" in page
    finally:
        (digits_run.path / LIVE).unlink()
        gemel.report([digits_run])
