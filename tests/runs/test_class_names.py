"""Names of discovered classes: from a labelled sample, by hand, merged, and kept."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

import gemel
from gemel.cli.main import main
from gemel.data.sources import open_source
from gemel.errors import UserError
from gemel.evaluations.class_naming import likely
from gemel.evaluations.features import KEPT, most_likely, see
from gemel.evaluations.networks import open_subject
from gemel.runs.class_names import read_names


@pytest.fixture
def run(digits_run: gemel.Run):
    """The session's run, without the names that a test gave."""
    yield digits_run
    (digits_run.path / "classes.yaml").unlink(missing_ok=True)


def test_names_from_labels_are_kept(run: gemel.Run) -> None:
    plain = gemel.classify(run, "digits")
    assert "name" not in plain.column_names
    table = gemel.classify(run, "digits", labels="own", naming="majority")
    names = read_names(run)
    truth = np.array([int(label) for label in table.column("label").to_pylist()])
    found = np.array(plain.column("class").to_pylist())
    counts = confusion_matrix(found, truth, labels=range(10))
    used = np.unique(found)
    assert names == {int(one): str(counts[one].argmax()) for one in used}
    again = gemel.classify(run, "digits")
    assert again.column("name").to_pylist() == table.column("name").to_pylist()
    once = gemel.classify(run, "digits", labels="own")
    given = once.column("name").to_pylist()
    right = np.mean([name == str(label) for name, label in zip(given, truth, strict=True)])
    cluster = next(one for one in run.evaluations() if one["protocol"] == "cluster")
    assert right == pytest.approx(cluster["metrics"]["acc"])


def test_classes_of_one_name_are_one(run: gemel.Run) -> None:
    plain = gemel.classify(run, "digits", top=10)
    table = gemel.classify(run, "digits", top=10, rename=["3=a", "7=a", "0=round"])
    assert set(table.column("class").to_pylist()) <= {0, 1, 2, 3, 4, 5, 6, 8, 9}
    assert "class_10" not in table.column_names
    row, merged_row = plain.to_pylist()[0], table.to_pylist()[0]
    places = [""] + [f"_{place}" for place in range(2, 11)]
    before = {row[f"class{one}"]: row[f"probability{one}"] for one in places}
    after = {merged_row[f"name{one}"]: merged_row[f"probability{one}"] for one in places[:9]}
    assert after["a"] == pytest.approx(before[3] + before[7])
    assert after["round"] == pytest.approx(before[0])
    gemel.classify(run, "digits", rename=["7="])
    assert read_names(run) == {3: "a", 0: "round"}


def test_more_classes_than_are_cached_are_computed_exactly(run: gemel.Run) -> None:
    subject = open_subject(run)
    seen = see(subject, open_source("digits"))
    assert seen.top is not None and seen.top.classes.shape == (1797, KEPT) and seen.top.class_count == 10
    assert subject.method is not None
    with torch.inference_mode():
        probabilities = subject.method.eval().classify(seen.features)
    assert probabilities is not None
    table = gemel.classify(run, "digits", top=10)
    suffixes = ["", *(f"_{rank}" for rank in range(2, 11))]
    found = np.stack([table[f"class{suffix}"].to_numpy() for suffix in suffixes], 1)
    shares = np.stack([table[f"probability{suffix}"].to_numpy() for suffix in suffixes], 1)
    np.testing.assert_allclose(shares, np.take_along_axis(probabilities.numpy(), found, 1), atol=1e-6)
    np.testing.assert_array_equal(np.sort(found, 1), np.broadcast_to(np.arange(10), found.shape))
    np.testing.assert_allclose(shares[:, :KEPT], seen.top.probability.numpy(), atol=1e-6)


def test_joined_classes_sum_their_probabilities(run: gemel.Run) -> None:
    subject = open_subject(run)
    seen = see(subject, open_source("digits"))
    names = {1: "x", 4: "x", 5: "y"}
    probability, classes = likely(subject, seen, 10, names)
    assert set(classes.unique().tolist()) == {0, 1, 2, 3, 5, 6, 7, 8, 9}
    torch.testing.assert_close(probability.sum(1), torch.ones(1797))
    assert bool((probability.diff(dim=1) <= 0).all())
    separate, numbers = likely(subject, seen, 10)
    rows = torch.zeros(1797, 10).scatter_(1, numbers.long(), separate)
    joined = torch.zeros(1797, 10).scatter_(1, classes.long(), probability)
    torch.testing.assert_close(joined[:, 1], rows[:, 1] + rows[:, 4])
    torch.testing.assert_close(joined[:, 5], rows[:, 5])


def test_of_equal_probabilities_the_lowest_class_is_first() -> None:
    values, classes = most_likely(torch.full((3, 100), 0.01), 5)
    assert classes.tolist() == [[0, 1, 2, 3, 4]] * 3
    values, classes = most_likely(torch.tensor([[0.1, 0.3, 0.3, 0.3, 0.0]]), 4)
    assert classes.tolist() == [[1, 2, 3, 0]]
    torch.testing.assert_close(values, torch.tensor([[0.3, 0.3, 0.3, 0.1]]))


def test_command_folders_and_report(run: gemel.Run, photos: Path, tmp_path: Path) -> None:
    out, into = tmp_path / "f.csv", tmp_path / "links"
    numbers = [word for one in range(10) for word in ("--rename", f"{one}=all/kinds")]
    with pytest.raises(SystemExit) as left:
        main(["classify", str(run.path), str(photos), "--out", str(out), "--into", str(into), *numbers])
    assert left.value.code == 0
    assert [path.name for path in into.iterdir()] == ["0000-all_kinds"]
    with out.open() as file:
        assert {row["name"] for row in csv.DictReader(file)} == {"all/kinds"}
    page = gemel.report([run], tmp_path / "page.html").read_text()
    assert "all/kinds" in page
    assert "class 0: " in page or "class 1: " in page, "the likeliest classes of an image"
    assert re.search(r"<div>all/kinds · 0\.\d\d</div>", page), "by the names they were given"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"rename": ["cat"]}, "'cat' is not of the form CLASS=NAME"),
        ({"rename": ["x=cat", "-1=dog"]}, "'x' is not the number of a class"),
        ({"rename": ["11=cat"]}, "class 11 was named; there are classes 0 to 9"),
        ({"rename": ["1=" + "a" * 101]}, "must have 1 to 100 characters"),
        ({"naming": "best"}, "must be .one_to_one. or .majority., not best"),
    ],
)
def test_mistakes(words: dict[str, object], told: str, run: gemel.Run) -> None:
    with pytest.raises(UserError, match=told):
        gemel.classify(run, "digits", **words)  # pyright: ignore[reportArgumentType]
    assert not (run.path / "classes.yaml").exists()


def test_the_file_is_edited_by_hand(run: gemel.Run) -> None:
    gemel.classify(run, "digits", rename=["3=cat", "4=no"])
    text = (run.path / "classes.yaml").read_text()
    assert "\n3: cat\n4: 'no'\n" in text
    (run.path / "classes.yaml").write_text("3: dog\n'4': 7\n")
    assert read_names(run) == {3: "dog", 4: "7"}
    (run.path / "classes.yaml").write_text("3: no\n")
    with pytest.raises(UserError, match="the name of class 3 is read as False; put it in quotes"):
        read_names(run)
    (run.path / "classes.yaml").write_text("- cat\n")
    with pytest.raises(UserError, match=r"classes\.yaml holds \['cat'\]; give a mapping, like `3: cat`"):
        read_names(run)


def test_names_that_the_sample_does_not_tell_stay(run: gemel.Run, tmp_path: Path) -> None:
    plain = gemel.classify(run, "digits")
    found = [row["class"] for row in plain.to_pylist()]
    first, other = found[0], next(one for one in found if one != found[0])
    gemel.classify(run, "digits", rename=[f"{first}=by hand", f"{other}=mine"])
    (tmp_path / "one.csv").write_text("path,label\ndigits/0000,zero\n")
    gemel.classify(run, "digits", labels=str(tmp_path / "one.csv"))
    assert read_names(run) == {first: "zero", other: "mine"}


def test_a_damaged_file(run: gemel.Run) -> None:
    (run.path / "classes.yaml").write_text("cat: 3\n")
    with pytest.raises(UserError, match=r"classes\.yaml: 'cat' is not the number of a class"):
        gemel.classify(run, "digits")
