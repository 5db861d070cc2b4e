"""A run's folder: atomic files, metrics cut back to a step, folders that may not be taken."""

from pathlib import Path

import pytest

from gemel.runs.folder import Claim, create
from gemel.errors import UserError
from gemel.runs.run import MetricsLog, Run, write_atomically, write_text


def test_a_write_that_fails_leaves_what_was(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "whole")

    def half(temporary: Path) -> None:
        temporary.write_text("ha")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, half)
    assert path.read_text() == "whole"
    assert [one.name for one in tmp_path.iterdir()] == ["file.txt"]


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    log = MetricsLog(run.metrics_path)
    for step in range(1, 6):
        log.append({"step": step, "loss": step / 3} | ({"knn": 0.5} if step == 3 else {}))
    with run.metrics_path.open("a") as file:
        file.write("6,0.1")  # the process died within a line
    log = MetricsLog(run.metrics_path, until=3)
    log.append({"step": 4, "loss": 9.0})
    table = run.metrics()
    assert table.column("step").to_pylist() == [1, 2, 3, 4]
    assert table.column("loss").to_pylist() == [1 / 3, 2 / 3, 1.0, 9.0]
    assert table.column("knn").to_pylist() == [None, None, 0.5, None]


def test_metrics_of_a_run_without_any(tmp_path: Path) -> None:
    assert create(Claim(tmp_path / "run"), "seed: 0\n").metrics().num_rows == 0


def test_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    values = [0.1 + 0.2, 1e-300, float("nan"), float("inf")]
    log = MetricsLog(run.metrics_path)
    for step, value in enumerate(values):
        log.append({"step": step, "value": value})
    read = run.metrics().column("value").to_pylist()
    assert read[0] == values[0]
    assert read[1] == values[1]
    assert read[2] != read[2]
    assert read[3] == values[3]


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no run\.yaml"):
        Run(tmp_path)


@pytest.mark.parametrize("name", ["evaluations/knn-12ab.json", "evaluations/gallery.json", "environment.json"])
@pytest.mark.parametrize("damage", [b'{"protocol": "kn', b"", b"\xff\xfe{"])
def test_a_damaged_file_is_named(name: str, damage: bytes, tmp_path: Path) -> None:
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    (run.path / "evaluations").mkdir()
    (run.path / name).write_bytes(damage)
    with pytest.raises(UserError, match=f"{name} is damaged: .*; delete it and run the command again"):
        assert run.evaluations() or run.gallery() or run.environment
