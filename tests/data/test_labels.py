"""Labels from folders and from tables."""

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
    assert "x0.jpg; x1.jpg; x2.jpg; x3.jpg; x4.jpg ..." in message
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
