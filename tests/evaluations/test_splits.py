"""Which images are held out, and subsets of a source."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import write_photos
from gemel.data.sources import open_source
from gemel.evaluations.splits import hold_out


def test_a_fifth_of_each_class() -> None:
    source = open_source("digits")
    train, test = hold_out(source)
    assert source.labels is not None
    assert sorted([*train, *test]) == list(range(len(source)))
    for label in range(10):
        count = int((source.labels == label).sum())
        assert int((source.labels[test] == label).sum()) == round(0.2 * count)
    assert np.array_equal(test, hold_out(open_source("digits"))[1])


def test_order_place_and_other_images_do_not_matter(tmp_path: Path) -> None:
    write_photos(tmp_path / "one", 60)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, two = (open_source(tmp_path / name, labels="folders") for name in ("one", "two"))
    held = {one.key(place) for place in hold_out(one)[1]}
    assert held == {two.key(place) for place in hold_out(two)[1]}
    assert len(held) == 12
    turned = two.subset(np.arange(60)[::-1])
    assert held == {turned.key(place) for place in hold_out(turned)[1]}
    fewer = two.subset(np.arange(50))
    left = {fewer.key(place) for place in range(50)}
    assert len(held & left - {fewer.key(place) for place in hold_out(fewer)[1]}) <= 4


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_small_classes(share: float) -> None:
    source = open_source("digits").subset(np.arange(40))
    source.labels = np.array([-1] * 5 + [0] + [1, 1] + [2] * 32, np.int64)
    train, test = hold_out(source, share)
    assert (source.labels[np.concatenate([train, test])] >= 0).all()
    assert set(source.labels[train]) == {0, 1, 2}
    expected = {0.0: [0, 0], 0.01: [1, 1], 0.5: [1, 16], 1.0: [1, 31]}[share]
    assert [int((source.labels[test] == label).sum()) for label in (1, 2)] == expected
    assert 0 not in source.labels[test], "one image alone is fitted on"


def test_without_labels_all_are_one_class(photos: Path) -> None:
    train, test = hold_out(open_source(photos))
    assert (len(train), len(test)) == (32, 8)


def test_a_subset_is_a_source(photos: Path) -> None:
    source = open_source(photos, labels="folders")
    part = source.subset(np.array([7, 3, 3]))
    assert len(part) == 3
    assert part.labels is not None and source.labels is not None
    assert part.labels.tolist() == source.labels[[7, 3, 3]].tolist()
    assert part.label_names == source.label_names
    assert part.path(0) == source.path(7)
    assert part.read(1) == source.read(3)
    assert part.subset(np.array([0])).path(0) == source.path(7)
    part.rename_labels(["b", "a"])
    assert source.label_names == ["a", "b"], "the whole is as it was"


def test_copies_of_one_image_stay_on_one_side(tmp_path: Path) -> None:
    paths = write_photos(tmp_path, 40)
    for path in paths:
        for number in range(3):
            shutil.copyfile(path, path.with_name(f"{path.stem}-copy-{number}.jpg"))
    source = open_source(tmp_path, labels="folders")
    train, test = ({source.key(index)[:-4].split("-")[0] for index in part} for part in hold_out(source))
    assert (len(train), len(test)) == (32, 8)
    assert not train & test


def test_copies_alone_are_still_split(tmp_path: Path) -> None:
    for name, colour in (("a", 0), ("b", 200)):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("L", (8, 8), colour).save(tmp_path / name / f"{number}.png")
    train, test = hold_out(open_source(tmp_path, labels="folders"))
    assert (len(train), len(test)) == (16, 4)
