"""Labels from folders and from tables."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from test_sources import fill, mistake, paths

from gemel.data.sources import open_source


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_labels_from_folders() -> None:
    fill("dog/1.jpg", "cat/deep/2.jpg", "top.jpg", "cat/3.jpg")
    source = open_source("photos", labels="folders")
    assert paths(source) == ["photos/cat/3.jpg", "photos/cat/deep/2.jpg", "photos/dog/1.jpg", "photos/top.jpg"]
    assert source.labels is not None
    assert (source.labels.tolist(), source.label_names) == ([0, 0, 1, -1], ["cat", "dog"])
    assert source.labels.dtype == np.int64
    assert source.stated_classes is None
    assert open_source("photos").labels is None
    Path("photos/list.txt").write_text("dog/1.jpg\n./cat/3.jpg\ntop.jpg\n../photos/dog/1.jpg\n")
    listed = open_source("photos/list.txt", labels="folders")
    assert listed.labels is not None
    assert listed.labels.tolist() == [1, 0, -1, -1]
    fill("1.jpg", folder="flat")
    assert "lies in a folder below it" in mistake("flat", labels="folders")
    assert "needs a folder of images" in mistake("digits", labels="folders")


def test_labels_from_a_table() -> None:
    fill("a/1.jpg", "a/2.jpg", "b/3.jpg", "4.jpg", "5.jpg")
    Path("labels.csv").write_bytes(
        b"\xef\xbb\xbfextra, Label ,PATH\r\nx, dog,a/1.jpg\r\nx,cat,photos/a/2.jpg\r\n"
        b"x,,b/3.jpg\r\nx,-1,./4.jpg\r\n\r\n"
    )
    source = open_source("photos", labels="labels.csv")
    assert source.labels is not None
    assert paths(source)[:2] == ["photos/4.jpg", "photos/5.jpg"]
    assert (source.labels.tolist(), source.label_names) == ([-1, -1, 1, 0, -1], ["cat", "dog"])
    again = open_source(Path("photos"), labels=Path("labels.csv"))
    assert again.label_names == source.label_names


@pytest.mark.parametrize("form", ["photos/{}", "{}", "../here/photos/{}", "full"])
def test_one_table_for_two_sets(form: str) -> None:
    """As gemel's own tables name the images, below the folder, beside the table; rows of the other set do no harm."""
    fill("a/1.jpg", "b/2.jpg")
    fill("a/3.jpg", folder="test")
    sets = {"photos": ["a/1.jpg", "b/2.jpg"], "test": ["a/3.jpg"]}
    places = [(Path(folder), path) for folder, paths in sets.items() for path in paths]
    rows = [str((folder / path).absolute()) for folder, path in places]
    if form != "full":
        rows = [form.replace("photos", str(folder)).format(path) for folder, path in places]
    Path("labels.csv").write_text("path,label\n" + "".join(f"{row},{row[-5]}\n" for row in rows))
    for given in ("photos", str(Path("photos").absolute())):
        source = open_source(given, labels="labels.csv")
        assert source.labels is not None
        assert [source.label_names[label] for label in source.labels] == ["1", "2"]
    assert open_source("test", labels="labels.csv").label_names == ["3"]


def test_labels_that_are_numbers_are_sorted_as_such() -> None:
    fill(*(f"{number}.jpg" for number in range(12)))
    Path("labels.csv").write_text("path,label\n" + "".join(f"{number}.jpg,{number}\n" for number in range(12)))
    source = open_source("photos", labels="labels.csv")
    assert source.label_names == [str(number) for number in range(12)]
    assert source.labels is not None
    assert [path == f"photos/{label}.jpg" for path, label in zip(paths(source), source.labels, strict=True)]


def test_labels_of_a_data_set_from_a_table() -> None:
    Path("labels.csv").write_text("path,label\ndigits/0003,odd\ndigits/0004,even\n")
    source = open_source("digits", labels="labels.csv")
    assert source.labels is not None
    assert (source.labels[3], source.labels[4], source.labels[5]) == (1, 0, -1)


def test_mistakes_in_labels() -> None:
    fill("1.jpg", "2.jpg")
    assert "give none, folders, or a CSV file" in mistake("photos", labels="folder")
    assert "give none, folders, or a CSV file" in mistake("photos", labels="")
    table = Path("labels.csv")
    table.write_text("path,label\n1.jpg,a\n" + "".join(f"x{number}.jpg,a\n" for number in range(7)))
    message = mistake("photos", labels="labels.csv")
    assert "7 of the 8 paths" in message
    assert "x0.jpg; x1.jpg; x2.jpg; x3.jpg; x4.jpg ...; write" in message
    table.write_text("path,label\nsub\\1.jpg,a\n")
    assert "sub\\1.jpg (\\ was tried as / too)" in mistake("photos", labels="labels.csv")
    table.write_text("file,class\n1.jpg,a\n")
    assert "'file,class'; the header must be path,label" in mistake("photos", labels="labels.csv")
    table.write_text("")
    assert "header must be path,label" in mistake("photos", labels="labels.csv")
    table.write_text("path,label\n1.jpg,a\n./1.jpg,b\n")
    assert "two labels" in mistake("photos", labels="labels.csv")
    table.write_text("path,label\n1.jpg,\n2.jpg\n")
    assert "hold no label" in mistake("photos", labels="labels.csv")
    table.write_text("path,label\n" + "x" * 200_000 + ",a\n")
    assert "cannot be read" in mistake("photos", labels="labels.csv")


UNKNOWN = ["", "-1", "-1.0", "nan", "NaN", "NA", "N/A", "n/a", "None", "null", "NULL", "<NA>"]


@pytest.mark.parametrize(
    ("cells", "labels", "names"),
    [
        (["0.0", "1.0", *UNKNOWN], [0, 1] + [-1] * 12, ["0", "1"]),
        (["10", "9.", "9.0", "nan"], [1, 0, 0, -1], ["9", "10"]),
        (["0.5", "1.0", "-1.0"], [0, 1, -1], ["0.5", "1.0"]),
        (["none", "cat", "None"], [1, 0, -1], ["cat", "none"]),
        (["v1.0", "1.0"], [1, 0], ["1.0", "v1.0"]),
        (["Ka\u0308se", "K\u00e4se"], [0, 0], ["K\u00e4se"]),
    ],
)
def test_labels_as_programs_write_them(cells: list[str], labels: list[int], names: list[str]) -> None:
    fill(*(f"{number:02}.jpg" for number in range(len(cells))))
    rows = [f"{number:02}.jpg,{cell}" for number, cell in enumerate(cells)]
    Path("labels.csv").write_text("\n".join(["path,label", *rows]))
    for given in ("labels.csv", cells):
        source = open_source("photos", labels=given)
        assert source.labels is not None
        assert (source.labels.tolist(), source.label_names) == (labels, names)


def test_numbers_as_labels() -> None:
    fill("1.jpg", "2.jpg", "3.jpg")
    for given in ([7, -1, 3], np.array([7.0, np.nan, 3.0]), [7.0, None, 3.0]):
        source = open_source("photos", labels=given)  # pyright: ignore[reportArgumentType]
        assert source.labels is not None
        assert (source.labels.tolist(), source.label_names) == ([1, -1, 0], ["3", "7"])
    assert "2 labels for 3 images" in mistake("photos", labels=["a", "b"])


def test_folders_may_be_called_like_unknown_labels() -> None:
    fill("NA/1.jpg", "None/2.jpg", "-1/3.jpg")
    assert open_source("photos", labels="folders").label_names == ["-1", "NA", "None"]


@pytest.mark.parametrize("typed", ["NFC", "NFD"])
@pytest.mark.parametrize("separator", ["/", "\\"])
def test_names_in_another_spelling(typed: str, separator: str) -> None:
    stored = "NFD" if typed == "NFC" else "NFC"
    names = ["Bär.jpg", "Käse/Öl.jpg"]
    fill(*(unicodedata.normalize(stored, name) for name in names))
    written = [unicodedata.normalize(typed, name).replace("/", separator) for name in names]
    Path("labels.csv").write_text(f"path,label\n{written[0]},a\n{written[1]},b\n")
    source = open_source("photos", labels="labels.csv")
    assert source.labels is not None
    assert sorted(source.label_names[label] for label in source.labels) == ["a", "b"]
    assert (
        source.label_names[source.labels[paths(source).index(f"photos/{unicodedata.normalize(stored, names[0])}")]]
        == "a"
    )
    Path("photos/list.txt").write_text("\n".join(written))
    listed = open_source("photos/list.txt")
    assert [listed.read(index) for index in range(2)] == [
        unicodedata.normalize(stored, name).encode() for name in names
    ]


def test_the_spelling_that_exists_has_precedence() -> None:
    one, two = (unicodedata.normalize(form, "ä.jpg") for form in ("NFC", "NFD"))
    fill(one, two)
    Path("labels.csv").write_text(f"path,label\n{one},one\n{two},two\n")
    source = open_source("photos", labels="labels.csv")
    assert source.labels is not None
    assert [source.label_names[label] for label in source.labels] == ["two", "one"]
    assert paths(source) == [f"photos/{two}", f"photos/{one}"]


def test_rows_that_are_too_long_are_refused() -> None:
    fill("1.jpg", "2.jpg")
    Path("labels.csv").write_text("path,label\n1.jpg,a\n2.jpg,b,c\n")
    assert "line 3" in mistake("photos", labels="labels.csv")
