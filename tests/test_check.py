"""`gemel check` and `gemel.check`: the table, the page, the printed lines, and mistakes."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import gemel
from check_images import jpeg, parts, pixels, write_parts
from gemel.cli.main import main
from gemel.errors import UserError


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Thirty parts, one copy, one small copy, one file that is no image."""
    folder = write_parts(tmp_path / "photos", 30)
    (folder / "copy.jpg").write_bytes((folder / "03.jpg").read_bytes())
    (folder / "small.jpg").write_bytes(jpeg(parts(8)[7].resize((70, 70))))
    (folder / "text.jpg").write_bytes(b"no image")
    return folder


def gemel_says(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(words)
    out = capsys.readouterr()
    return int(left.value.code or 0), out.out, out.err


def test_the_table(photos: Path) -> None:
    table = gemel.check(photos)
    assert table.column_names == ["path", "finding", "of", "value", "about"]
    rows = {row["finding"]: row for row in table.to_pylist()}
    assert set(rows) == {"exact duplicate", "near duplicate", "unreadable"}
    assert rows["exact duplicate"]["path"] == f"{photos}/copy.jpg"
    assert rows["exact duplicate"]["of"] == f"{photos}/03.jpg"
    assert rows["near duplicate"] == {
        "path": f"{photos}/small.jpg",
        "finding": "near duplicate",
        "of": f"{photos}/07.jpg",
        "value": rows["near duplicate"]["value"],
        "about": rows["near duplicate"]["about"],
    }
    assert 0 <= rows["near duplicate"]["value"] < 0.08
    assert rows["near duplicate"]["about"].startswith("70 x 70 and 106 x 106, they differ by ")
    assert rows["unreadable"]["about"] == "text, not an image"


def test_command(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "found.csv", tmp_path / "found.html"
    code, said, errors = gemel_says(["check", str(photos), "--out", str(out), "--report", str(page)], capsys)
    assert code == 0, errors
    lines = said.splitlines()
    assert lines[0] == "33 images:"
    kinds = [re.match(r"\s*(\D+?)\s+1\b", line) for line in lines[1:4]]
    assert [kind and kind[1] for kind in kinds] == ["exact duplicate", "near duplicate", "unreadable"]
    assert lines[4:] == [f"table: {out}", f"report: {page}"]
    with out.open(encoding="utf-8", newline="") as file:
        assert next(iter(csv.DictReader(file)))["of"] == f"{photos}/03.jpg"
    html = page.read_text(encoding="utf-8")
    assert len(re.findall(r'<img src="data:image/', html)) == 4
    assert "text, not an image" in html
    assert not re.search(r'(src|href)="(?!data:|#)', html), "it needs no other file"


def test_nothing_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "found.html"
    code, said, _ = gemel_says(["check", str(write_parts(tmp_path / "photos", 30)), "--report", str(page)], capsys)
    assert (code, said.splitlines()[0]) == (0, "30 images: nothing found")
    assert "Nothing was found" in page.read_text(encoding="utf-8")


def test_parquet_and_arrays(tmp_path: Path) -> None:
    images = pixels(parts(5))
    table = gemel.check([*images, images[2]], out=tmp_path / "found.parquet")
    assert parquet.read_table(tmp_path / "found.parquet").equals(table)
    assert table.to_pylist()[0] | {"about": ""} == {
        "path": "array/5",
        "finding": "exact duplicate",
        "of": "array/2",
        "value": 0.0,
        "about": "",
    }


def test_features_by_array_and_by_table(photos: Path) -> None:
    random = np.random.default_rng(0)
    rows = np.concatenate([np.ones(6), np.zeros(6)]) + random.normal(0, 0.05, (33, 12))
    rows[20] = np.eye(12)[8]
    unlike = [
        row["path"] for row in gemel.check(photos, features=rows).to_pylist() if row["finding"] == "unlike any other"
    ]
    assert unlike == [f"{photos}/20.jpg"]
    names = [f"{photos}/{path.name}" for path in sorted(photos.iterdir())][::-1]
    table = pa.table({"path": names, "vector": list(rows[::-1])}).slice(2)
    assert f"{photos}/20.jpg" in gemel.check(photos, features=table).column("path").to_pylist()


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (np.zeros((3, 4)), r"features of shape \(3, 4\) for 33 images"),
        (np.zeros(33), r"features of shape \(33,\)"),
        (np.full((33, 2), np.nan), "NaN or infinite"),
        ([["a"], ["b"]], "features are numbers"),
        (pa.table({"path": ["a"], "vector": [[1.0]]}), "none of the images"),
        (pa.table({"path": ["a", "b"], "vector": [[1.0], [1.0, 2.0]]}), "different lengths"),
    ],
)
def test_features_that_do_not_fit(features: Any, words: str, photos: Path) -> None:
    with pytest.raises(UserError, match=words):
        gemel.check(photos, features=features)


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = gemel_says(["check", "--out", "x.txt", "--report", "x.pdf", "--rescna"], capsys)
    assert code == 2
    assert errors.splitlines() == [
        "gemel: --out x.txt must end in .csv or .parquet",
        "gemel: --report x.pdf must end in .html",
        "gemel: --rescna is not an option of check; did you mean --rescan?",
        "gemel: IMAGES missing; gemel check IMAGES [OPTIONS]",
    ]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    assert gemel_says(["check", str(tmp_path / "photos")], capsys)[::2] == (
        2,
        f"gemel: none of the 1 images of {tmp_path}/photos can be read; the first: empty file (0 bytes)\n",
    )
    assert gemel_says(["check", str(tmp_path / "nowhere")], capsys)[0] == 2


def test_one_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="as one process"):
        gemel.check("digits")
