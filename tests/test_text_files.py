"""The user's text files, in every encoding and spelling in which they come."""

import unicodedata
from pathlib import Path

import pytest

from gemel.errors import UserError
from gemel.text_files import read_lines, read_table, read_text, spellings

TEXT = "path,label\nBär.png,a\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(encoding: str, ending: str, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes(TEXT.replace("\n", ending).encode(encoding))
    assert read_text(file) == TEXT
    assert read_lines(file) == [(1, "path,label"), (2, "Bär.png,a")]
    assert [(row.line, row.cells) for row in read_table(file, ["path", "label"])] == [
        (2, {"path": "Bär.png", "label": "a"})
    ]


@pytest.mark.parametrize("data", [b"a\0b", "a".encode("utf-16-le"), b"\xff\xfea"])
def test_what_is_no_text(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(UserError, match="UTF-"):
        read_text(tmp_path / "t")
    with pytest.raises(UserError, match="cannot be read"):
        read_text(tmp_path / "missing")
    with pytest.raises(UserError, match="cannot be read"):
        read_text("zero\0byte")


def test_lines() -> None:
    assert spellings("a.png") == ["a.png"]
    composed, apart = (unicodedata.normalize(form, "x\\ä") for form in ("NFC", "NFD"))
    assert spellings(composed) == [composed, composed.replace("\\", "/"), apart, apart.replace("\\", "/")]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables(separator: str, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    rows = ['"a, b; c.png"', "x"], ["short"], ["", ""], ["d", "y", ""]
    file.write_text("\n".join(separator.join(row) for row in (["PATH", " Label "], *rows)))
    assert read_table(file, ["path", "label"]) == [
        (2, {"path": "a, b; c.png", "label": "x"}),
        (3, {"path": "short", "label": ""}),
        (5, {"path": "d", "label": "y"}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "header must be path,label"),
        ("path,path,label\n", "header must be path,label"),
        ("path,label\na.png,x,y\nb.png,z\nc,d,e,f\n", "2 rows .* more cells than its header: line 2; line 4"),
        ("path,label\n" + "x" * 200_000, "line 2: field larger"),
    ],
)
def test_mistakes_in_tables(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "t.csv", ["path", "label"])


def test_no_message_fills_the_terminal() -> None:
    error = UserError(*["x" * 500_000] * 1000)
    assert len(error.mistakes) == 51
    assert error.mistakes[-1] == "... and 950 more"
    assert max(map(len, error.mistakes)) < 2100
