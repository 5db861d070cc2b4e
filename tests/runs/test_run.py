"""A run's folder: atomic files, metrics cut back to a step, folders that may not be taken."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from gemel.errors import UserError
from gemel.runs.files import write_atomically, write_text
from gemel.runs.folder import Claim, create
from gemel.runs.metrics_log import MetricsLog
from gemel.runs.run import Run


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


JSON_DAMAGE = [b'{"protocol": "kn', b"", b"\xff\xfe{", b"[]", b"3", b"null", b"[" * 100_000]


@pytest.mark.parametrize("name", ["evaluations/knn-12ab.json", "evaluations/gallery.json", "environment.json"])
@pytest.mark.parametrize("damage", JSON_DAMAGE)
def test_a_damaged_json_file_is_named(name: str, damage: bytes, tmp_path: Path) -> None:
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    (run.path / "evaluations").mkdir()
    (run.path / name).write_bytes(damage)
    with pytest.raises(UserError, match=f"{name} is damaged: .*; delete it and run the command again"):
        assert run.evaluations() or run.gallery() or run.environment


@pytest.mark.parametrize(
    "damage",
    [
        b'{"metrics": {}}',
        b'{"protocol": "knn", "metrics": 3}',
        b'{"protocol": "knn", "metrics": {"top1": "high"}}',
        b'{"protocol": "knn", "metrics": {"top1": true}}',
        b'{"protocol": "knn", "metrics": {}, "settings": []}',
        b'{"protocol": 3, "metrics": {}}',
    ],
)
def test_a_result_of_another_form_is_left_out_and_named(damage: bytes, tmp_path: Path) -> None:
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    (run.path / "evaluations").mkdir()
    (run.path / "evaluations/knn-12ab.json").write_bytes(damage)
    whole = {"protocol": "linear", "metrics": {"top1": 0.5}, "settings": {}}
    (run.path / "evaluations/linear-12ab.json").write_text(json.dumps(whole))
    told: list[str] = []
    assert run.evaluations(told.append) == [whole]
    assert len(told) == 1 and "knn-12ab.json is damaged" in told[0]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (b"step,loss\n1,0.5\n2,much\n", "'much'"),
        (b"step,loss\n1,0.5\n2\n3,0.1\n", "row 2 does not have 2 cells"),
        (b"step,loss\n1,0.5,7\n2,0.1\n", "row 1 does not have 2 cells"),
        (b"step,loss,loss\n1,0.5,0.5\n", "twice"),
        (b"\x89PNG\r\n\x1a\n\xff", "decode"),
        (b"epoch,loss\none,0.5\n", "'one'"),
    ],
)
def test_damaged_metrics_are_named(damage: bytes, reason: str, tmp_path: Path) -> None:
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    run.metrics_path.write_bytes(damage)
    with pytest.raises(UserError, match=r"metrics\.csv is damaged: .*") as error:
        run.metrics()
    assert reason in str(error.value)


def test_a_line_cut_short_is_no_damage(tmp_path: Path) -> None:
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    run.metrics_path.write_bytes(b"step,loss\n1,0.5\n2")
    assert run.metrics().to_pydict() == {"step": [1], "loss": [0.5]}


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", "columns", "types"])
def test_damaged_classes_are_named(damage: bytes | str, tmp_path: Path) -> None:
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    path = run.path / "classes.parquet"
    if isinstance(damage, bytes):
        path.write_bytes(damage)
    elif damage == "columns":
        parquet.write_table(pa.table({"path": ["a"], "class": [1]}), path)
    else:
        parquet.write_table(pa.table({"path": ["a"], "class": ["one"], "probability": [0.5]}), path)
    with pytest.raises(UserError, match=r"classes\.parquet is damaged"):
        run.classes()


@pytest.mark.parametrize("damage", [b"a,b\n1,2\n", b"\xff\xfe\0", b"path,reason\na\nb,c\n"])
def test_a_damaged_list_of_rejected_files_is_named(damage: bytes, tmp_path: Path) -> None:
    run = create(Claim(tmp_path / "run"), "seed: 0\n")
    (run.path / "rejected.csv").write_bytes(damage)
    with pytest.raises(UserError, match=r"rejected\.csv is damaged"):
        run.rejected()


@pytest.mark.parametrize("length", [1, 240, 255])
def test_names_of_any_length_are_written(length: int, tmp_path: Path) -> None:
    path = tmp_path / ("ä" * (length // 2) + "x" * (length % 2))
    write_text(path, "whole")
    assert path.read_text() == "whole"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_damaged_log_is_named_where_a_run_continues(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(b"step,loss\n1,0.5\n\xff\xfe,1\n")
    with pytest.raises(UserError, match=r"metrics\.csv is damaged: .*; delete it and run the command again"):
        MetricsLog(tmp_path / "metrics.csv", until=1)


@pytest.mark.parametrize(
    "text", ["seed: 0\n", "method: 3\n", "method: {name: [a]}\n", "- a\n", "method: {name: !!python/name:os.x }\n"]
)
def test_settings_without_a_method(text: str, tmp_path: Path) -> None:
    run = create(Claim(tmp_path / "run"), text)
    with pytest.raises(UserError, match=r"run\.yaml is damaged"):
        assert run.method_name
