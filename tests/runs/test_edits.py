"""Edits of the explorer: read, checked, merged, and what classify makes of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gemel
from gemel.errors import UserError
from gemel.runs.class_names import read_names
from gemel.runs.edits import Edits, apply_edits, read_edits, read_edits_file


@pytest.fixture
def run(digits_run: gemel.Run, tmp_path: Path) -> gemel.Run:
    return gemel.load(shutil.copytree(digits_run.path, tmp_path / "run"))


def written(folder: Path, **edits: Any) -> Path:
    path = folder / "edits.json"
    path.write_text(json.dumps({"gemel_edits": 1, "run": "x", **edits}), encoding="utf-8")
    return path


def test_edits_are_merged_and_taken_back(run: gemel.Run) -> None:
    apply_edits(run, Edits(names={"1": "a", "2": "b"}, moved={"p": "a", "q": "b"}, wrong={"p": True}))
    apply_edits(run, Edits(names={"2": ""}, moved={"q": None, "r": "3"}, wrong={"p": False, "q": True}))
    assert read_names(run) == {1: "a"}
    kept = read_edits(run)
    assert kept.moved == {"p": "a", "r": "3"} and kept.wrong == {"q": True}
    before = (run.path / "edits.json").read_bytes()
    apply_edits(run, Edits())
    assert (run.path / "edits.json").read_bytes() == before


def test_what_classify_makes_of_them(run: gemel.Run, tmp_path: Path) -> None:
    plain = gemel.classify(run)
    assert "edited" not in plain.column_names
    found = np.array(plain["class"].to_pylist())
    paths = plain["path"].to_pylist()
    largest, second, third = np.argsort(-np.bincount(found))[:3].tolist()
    most = np.flatnonzero(found == second)
    named = most[: len(most) // 2 + 1].tolist()  # more than half of a class without a name
    few = np.flatnonzero(found == largest)[:10].tolist()
    edits = written(
        tmp_path,
        names={str(largest): "round"},
        moved={paths[row]: "thin" for row in named}
        | {paths[row]: "new" for row in few[:5]}
        | {paths[few[5]]: str(third)},
        wrong={paths[few[9]]: True},
    )
    table = gemel.classify(run, edits=edits)
    names, classes = table["name"].to_pylist(), table["class"].to_pylist()
    assert all(names[row] == "thin" and classes[row] == second for row in most), "the class has its images' name"
    assert all(names[row] == "new" and classes[row] == 10 for row in few[:5])
    assert (names[few[5]], classes[few[5]]) == (str(third), third)
    assert all(names[row] == "round" for row in few[6:])
    assert table["probability"][few[0]].as_py() == 1
    edited = table["edited"].to_pylist()
    assert {edited[row] for row in named} == {"moved"} and edited[few[9]] == "wrong" and edited[few[8]] == ""
    again = gemel.classify(run)
    assert again.equals(table), "edits are kept in the run"
    page = run.explorer_path.read_text(encoding="utf-8")
    assert f'"names":{{"{largest}":"round"}}' in page
    assert read_names(run) == {largest: "round"}, "names that follow from moved images are not written down"


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        ({"names": {"10": "x"}}, "class 10 was named; there are classes 0 to 9"),
        ({"names": {"-1": "x"}}, "'-1' is not the number of a class"),
        ({"names": {"1": "x" * 101}}, "must have 1 to 100 characters"),
        ({"moved": {"digits/9999": "x"}}, r"changes 1 images that the run has not learned from: digits/9999"),
        ({"moved": {"digits/0001": " "}}, "must have 1 to 100 characters"),
        ({"moved": ["digits/0001"]}, "holds no edits of the explorer: moved"),
        ({"gemel_edits": 2}, "format 2 of edits is not known"),
        ({"strange": 1}, "holds no edits of the explorer: strange"),
    ],
)
def test_mistakes_write_nothing(run: gemel.Run, tmp_path: Path, edits: dict[str, Any], told: str) -> None:
    before = run.explorer_path.read_bytes()
    with pytest.raises(UserError, match=told):
        gemel.classify(run, edits=written(tmp_path, **edits))
    assert not (run.path / "classes.yaml").exists() and not (run.path / "edits.json").exists()
    assert run.explorer_path.read_bytes() == before


def test_files_that_are_no_edits(run: gemel.Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file; Save in the explorer makes one"):
        read_edits_file(tmp_path / "none.json")
    (tmp_path / "x.json").write_bytes(b"\xff")
    with pytest.raises(UserError, match="is damaged"):
        read_edits_file(tmp_path / "x.json")
    (run.path / "edits.json").write_text("[]")
    with pytest.raises(UserError, match=r"edits\.json is damaged"):
        gemel.classify(run)
    (run.path / "edits.json").unlink()
    (run.path / "evaluations" / "map.parquet").unlink()
    with pytest.raises(UserError, match="has no map of its images, which edits are made on"):
        gemel.classify(run, edits=written(tmp_path))
