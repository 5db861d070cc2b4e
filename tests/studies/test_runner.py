"""A study's runs: made once, resumed after a kill, never mixed; and what is written of them."""

import csv
import shutil
import signal
from pathlib import Path

import pyarrow as pa
import pytest

from forked import Started
from gemel.errors import UserError
from gemel.reports.tables import Table, show
from gemel.runs.run import Run
from gemel.studies.base import Column, same_classes
from gemel.studies.checks import NOT_TESTABLE
from studies.planted import VARIATIONS, WILD, planted, run, run_all


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_a_killed_study_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "study"
    process = Started(run_all, out)
    process.wait_until((out / "short-2" / "seed-0" / "run.yaml").exists)
    process.send(signal.SIGKILL)
    assert process.end()[0] == -signal.SIGKILL
    first = out / "short-1" / "seed-0"
    before = contents(first)
    assert not (out / "planted.md").exists()

    said: list[str] = []
    judged = planted(evaluations=(("cluster", {"kmeans": 7}), ("cluster", {"network": "pixels"})))
    outcome = run(judged, out, said=said)
    after = contents(first)
    assert {name: after[name] for name in before} == before  # the finished run is as it was
    new = [name for name in after if name not in before]  # judged once more, and so were its pixels
    assert all("cluster-" in name or name.startswith("networks/pixels/") for name in new)
    assert {name.startswith("networks/pixels/evaluations/") for name in new if "cluster-" in name} == {False, True}
    assert len(outcome.finished) == 4
    assert [len(values) for row in outcome.rows for values in row.values.values()] == [2, 0, 2, 2] * 2
    assert (out / "planted.md").is_file()
    curves = {row.name: {epoch: len(one) for epoch, one in row.curves["EH"].items()} for row in outcome.rows}
    assert curves == {"short-1": {0: 2}, "short-2": {0: 2, 1: 2}}
    rows = Run(out / "short-2" / "seed-0").metrics().to_pylist()
    seconds = [row["sharpness"] for row in rows if row["epoch"] == 1]
    assert outcome.rows[1].curves["EH"][1][0] == pytest.approx(sum(seconds) / len(seconds))
    assert (out / "planted.csv").read_text(encoding="utf-8").count("EH by epoch") == 3
    assert "EH by epoch" in (out / "planted.svg").read_text(encoding="utf-8")

    again: list[str] = []
    everything = contents(out / "short-2")
    same = run(judged, out, said=again)
    assert same.rows == outcome.rows
    assert contents(out / "short-2") == everything
    assert all("was there" in line for line in again)

    with pytest.raises(UserError, match=r"seed-0 is a run of other settings \(image_size 8, now 12\)"):
        run(planted(), out, image_size=12)
    check_files(out)


def check_files(out: Path) -> None:
    with (out / "planted.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["x"], row["seeds"]) for row in rows if row["column"] == "k-NN"] == [("1", "2"), ("2", "2")]
    for row in rows:
        values = [float(value) for value in row["values"].split()]
        assert len(values) == int(row["seeds"])
        if values:
            assert float(row["mean"]) == pytest.approx(sum(values) / 2)
            assert float(row["standard_error"]) == pytest.approx(abs(values[0] - values[1]) / 2)
    text = (out / "planted.md").read_text(encoding="utf-8")
    assert "gemel study planted" in text
    assert "| TWIST with NBS | ResNet-50 |" in text
    assert "Not complete" not in text
    drawing = (out / "planted.svg").read_text(encoding="utf-8")
    assert drawing.count("<circle") == 6 + 3  # two points of each column that was measured, three of the curve
    assert "http" not in drawing.replace("http://www.w3.org/2000/svg", "")
    page = (out / "planted.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3 + 1
    assert "<script" not in page


def test_a_diverged_run_is_a_result(tmp_path: Path) -> None:
    said: list[str] = []
    outcome = run(planted(WILD), tmp_path, said=said)
    assert "diverged" in said[0]
    assert outcome.finished == ()
    assert set(outcome.failed) == {"wild/seed-0", "wild/seed-1"}
    assert outcome.verdicts[0].word == NOT_TESTABLE
    assert "wild/seed-0 diverged" in (tmp_path / "planted.md").read_text(encoding="utf-8")
    before = contents(tmp_path / "wild")
    run(planted(WILD), tmp_path, said=said)
    assert "diverged before" in said[-1]
    assert contents(tmp_path / "wild") == before
    shutil.rmtree(tmp_path / "wild/seed-0")
    run(planted(WILD), tmp_path, said=said)
    assert (tmp_path / "wild/seed-0/run.yaml").is_file(), "deleted, it is tried again"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 3}, "epochs is what the study varies"),
        ({"seed": 3}, "seeds says how many"),
        ({"overwrite": True}, "overwrite belongs to one run"),
        ({"epohcs": 3}, "did you mean epochs"),
        ({"method": {"hiden": 3}}, "did you mean method.hidden"),
    ],
)
def test_mistakes_write_nothing(tmp_path: Path, settings: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        run(planted(), tmp_path / "study", **settings)
    assert not (tmp_path / "study").exists()


def test_of_a_group_the_table_shows_the_best(tmp_path: Path) -> None:
    """Rows planted into an outcome of no run: two rates of one size, and one of another."""
    from dataclasses import replace

    from gemel.settings.tree import Layer
    from gemel.studies.checks import Row, order
    from gemel.studies.outcome import Outcome
    from gemel.studies.plan import StudyLaunch

    study = replace(planted(), best="k-NN", checks=(order("k-NN", "large", "small"),))

    def row(name: str, x: float, value: float, group: str) -> Row:
        return Row(name, "short", x, {column.name: [value, value + 0.01] for column in study.columns}, group)

    rows = (row("low", 1, 0.2, "small"), row("high", 1, 0.4, "small"), row("large", 2, 0.6, "large"))
    outcome = Outcome("grouped", study, StudyLaunch(seeds=2), Layer({}, "call"), rows, (), {})
    assert [cells[0] for cells in outcome.table().rows] == ["small (high)", "large"]
    assert outcome.verdicts[0].word == "pass"
    assert outcome.verdicts[0].reason.startswith("large − small = 0.2 ")
    outcome.write(tmp_path, tmp_path)
    assert (tmp_path / "grouped.svg").read_text(encoding="utf-8").count("<circle") == 2 * len(study.columns)
    assert all(f",{one.name}," in (tmp_path / "grouped.csv").read_text(encoding="utf-8") for one in rows)


def test_a_study_without_an_axis_names_its_places(tmp_path: Path) -> None:
    """Rows planted into an outcome of no run: a chart by name, and one seed that tells no trend."""
    from dataclasses import replace

    from gemel.settings.tree import Layer
    from gemel.studies.checks import Row
    from gemel.studies.outcome import Outcome
    from gemel.studies.plan import StudyLaunch

    few, *others = VARIATIONS
    small = planted().small._replace(variations=[few._replace(remark="of few epochs"), *others])
    study = replace(planted(), axis="", small=small)
    names = [variation.name for variation in VARIATIONS]
    values = {column.name: [0.5] for column in study.columns}
    rows = tuple(Row(name, "", None, values) for name in names)
    outcome = Outcome("named", study, StudyLaunch(seeds=1), Layer({}, "call"), rows, (), {})
    outcome.write(tmp_path, tmp_path)
    drawing = (tmp_path / "named.svg").read_text(encoding="utf-8")
    assert all(drawing.count(f">{name}<") == len(study.columns) for name in names)
    assert outcome.verdicts[0].word == NOT_TESTABLE
    text = (tmp_path / "named.md").read_text(encoding="utf-8")
    assert "0 of 2 runs so far" in text
    assert f"{names[0]}: of few epochs." in text


def test_two_seeds_are_compared(tmp_path: Path) -> None:
    """The same sorting under other numbers is the same; one of the two without classes gives no value."""
    folders = [tmp_path / str(seed) for seed in range(3)]
    found: list[list[int]] = [[0, 0, 1, 1, 2, 2], [5, 5, 0, 0, 1, 1], []]
    for folder, classes in zip(folders, found, strict=True):
        folder.mkdir()
        (folder / "run.yaml").write_text("", encoding="utf-8")
        if classes:
            Run(folder).write_classes(pa.table({"path": list("abcdef"), "class": classes, "probability": [1.0] * 6}))
    runs = [Run(folder) for folder in folders]
    column = Column("agreement", same_classes, of_pairs=True)
    assert column.values(runs[:2]) == pytest.approx([1.0])
    assert len(column.values(runs)) == 1
    runs[2].write_classes(pa.table({"path": list("abcdef"), "class": [0, 1, 0, 1, 0, 1], "probability": [1.0] * 6}))
    values = column.values(runs)
    assert len(values) == 3
    assert max(values[1:]) < 0.1


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_fits_the_terminal(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks where it is wider; every name and every number is there as a whole."""
    monkeypatch.setenv("COLUMNS", str(width))
    rows = tuple((f"{name}-classes", *(f"{name}.{place}234 ± 0.0056" for place in range(9))) for name in range(3))
    show(Table("Results", ("run", *(f"between seeds {place}" for place in range(9))), rows, "a note"))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    assert all(cell in out for row in rows for cell in row)
    assert out.count("Results") == out.count("a note") == 1
    assert out.count("0-classes") == (1 if width == 200 else 3 if width == 80 else 9)
