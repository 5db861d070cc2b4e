"""Every data set of the transfer protocols, in its real layout on the disk."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import layouts
from gemel.data.decode import load
from gemel.data.downstream import TABLE_4, available, describe, open_set
from gemel.data.sources import Source
from gemel.data.sources.parts import Joined
from gemel.errors import UserError

# name: layout, images of train, val and test, label names
SETS: dict[str, tuple[Callable[[Path], None], tuple[int, int, int], list[str]]] = {
    "food101": (layouts.food101, (27, 3, 12), ["apple_pie", "baby_back_ribs", "waffles"]),
    "cifar10": (layouts.cifar10, (27, 3, 6), list("0123456789")),
    "cifar100": (layouts.cifar100, (27, 3, 6), [str(one) for one in range(100)]),
    "sun397": (layouts.sun397, (24, 6, 12), ["abbey", "beach", "outdoor/pool"]),
    "cars": (layouts.cars, (19, 5, 9), ["Audi", "BMW", "Fiat"]),
    "aircraft": (layouts.aircraft, (12, 12, 12), ["707-320", "A300B4", "DC-9 30"]),
    "voc2007": (layouts.voc2007, (6, 4, 5), []),
    "dtd": (layouts.dtd, (15, 15, 15), ["banded", "dotted", "woven"]),
    "pets": (layouts.pets, (90, 60, 12), ["Abyssinian", "american_bulldog", "yorkshire_terrier"]),
    "caltech101": (layouts.caltech101, (75, 15, 8), ["Faces", "accordion", "yin_yang"]),
    "flowers102": (layouts.flowers102, (9, 9, 12), ["1", "2", "3"]),
}


def paths(source: Source) -> list[str]:
    return [source.path(place) for place in range(len(source))]


def test_the_eleven() -> None:
    assert set(SETS) == set(TABLE_4)
    assert [describe(name).metric for name in TABLE_4].count("mean_per_class") == 4
    assert available()[:11] == list(TABLE_4)


@pytest.mark.parametrize("name", TABLE_4)
def test_a_set_in_its_layout(name: str, tmp_path: Path) -> None:
    build, counts, names = SETS[name]
    build(tmp_path)
    found = open_set(name, tmp_path)
    parts = (found.train, found.val, found.test)
    assert tuple(map(len, parts)) == counts
    shown = [path for part in parts for path in paths(part)]
    assert len(set(shown)) == sum(counts)
    if name == "voc2007":
        assert found.targets is not None
        assert [one.shape for one in found.targets] == [(count, 20) for count in counts]
        return
    assert found.label_names == names
    shift = 1 if name == "caltech101" else 0  # its first colour is of the background
    for part in parts:
        assert part.labels is not None
        for place, label in enumerate(part.labels.tolist()):
            colour = np.array(load(part, place)).reshape(-1, 3).mean(0)
            nearest = np.abs(np.array(layouts.COLOURS) - colour).sum(1).argmin()
            assert nearest == label + shift, part.path(place)


@pytest.mark.parametrize("name", TABLE_4)
def test_the_same_seed_draws_the_same_images(name: str, tmp_path: Path) -> None:
    SETS[name][0](tmp_path)
    one, same, other = (open_set(name, tmp_path, seed=seed) for seed in (0, 0, 1))
    assert paths(one.val) == paths(same.val)
    assert paths(one.test) == paths(same.test)
    official = one.val_rule == "official"
    assert (paths(one.val) == paths(other.val)) == official


@pytest.mark.parametrize("name", TABLE_4)
def test_missing_files_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing; expected|is missing, found nothing") as caught:
        open_set(name, tmp_path)
    assert describe(name).layout in str(caught.value)
    assert describe(name).origin in str(caught.value)
    with pytest.raises(UserError, match="no folder"):
        open_set(name, tmp_path / "elsewhere")


def test_difficult_objects() -> None:
    # asked of the file as the layout writes it, below
    assert layouts.VOC_IMAGES["train"][4:] == [["cat!"], ["dog", "dog!"]]


def test_voc_targets(tmp_path: Path) -> None:
    layouts.voc2007(tmp_path)
    found = open_set("voc2007", tmp_path)
    assert found.targets is not None
    cat, dog, person = (found.label_names.index(one) for one in ("cat", "dog", "person"))
    assert found.targets[0][:, [cat, dog, person]].tolist() == [
        [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [-1, 0, 0], [0, 1, 0],
    ]  # fmt: skip
    assert found.targets[2][4, dog] == -1
    assert (tmp_path / "VOCdevkit").is_dir()
    assert open_set("voc2007", tmp_path / "VOCdevkit").label_names == found.label_names  # a folder further in


@pytest.mark.parametrize(
    ("name", "binary", "python"),
    [("cifar10", layouts.cifar10_binary, layouts.cifar10), ("cifar100", layouts.cifar100_binary, layouts.cifar100)],
)
def test_both_versions_of_cifar_agree(
    name: str, binary: Callable[[Path], None], python: Callable[[Path], None], tmp_path: Path
) -> None:
    binary(tmp_path / "one")
    python(tmp_path / "two")
    one, two = (open_set(name, tmp_path / place) for place in ("one", "two"))
    for first, second in ((one.train, two.train), (one.val, two.val), (one.test, two.test)):
        assert first.labels is not None and second.labels is not None
        assert first.labels.tolist() == second.labels.tolist()
        for place in range(len(first)):
            assert np.array_equal(np.asarray(first.read(place)), np.asarray(second.read(place)))


class _Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("harm"),)  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_runs_no_code(protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layouts.cifar10(tmp_path, protocol)
    assert len(open_set("cifar10", tmp_path).train) == 27
    (tmp_path / "cifar-10-batches-py/test_batch").write_bytes(pickle.dumps(_Harmful(), protocol=protocol))
    with pytest.raises(UserError, match="is asked for"):
        open_set("cifar10", tmp_path)
    assert not (tmp_path / "harm").exists()


def test_wrong_files(tmp_path: Path) -> None:
    layouts.dtd(tmp_path)
    next((tmp_path / "dtd/dtd/images/banded").iterdir()).unlink()
    with pytest.raises(UserError, match=r"1 of 15 listed images are missing, the first is images/banded"):
        open_set("dtd", tmp_path)
    layouts.pets(tmp_path)
    layouts.text(tmp_path / "oxford-iiit-pet/annotations/test.txt", ["Abyssinian_1"])
    with pytest.raises(UserError, match="Abyssinian_1"):
        open_set("pets", tmp_path)
    layouts.flowers102(tmp_path)
    (tmp_path / "flowers-102/setid.mat").write_text("nothing of the kind")
    with pytest.raises(UserError, match="not a MATLAB file"):
        open_set("flowers102", tmp_path)
    layouts.cifar100_binary(tmp_path)
    (tmp_path / "cifar-100-binary/train.bin").write_bytes(b"short")
    with pytest.raises(UserError, match="5 bytes"):
        open_set("cifar100", tmp_path)
    layouts.sun397(tmp_path)
    (tmp_path / "SUN397/Training_01.txt").unlink()
    with pytest.raises(UserError, match=r"Training_01.txt missing, found .*ClassName.txt"):
        open_set("sun397", tmp_path)
    layouts.food101(tmp_path)
    (tmp_path / "food-101/meta/train.json").write_text("[]")
    with pytest.raises(UserError, match="list"):
        open_set("food101", tmp_path)
    with pytest.raises(UserError, match="there are food101, cifar10"):
        open_set("birdsnap", tmp_path)


def test_folders(tmp_path: Path) -> None:
    layouts.folders(tmp_path)
    found = open_set("folders", tmp_path)
    assert (len(found.train), len(found.val), len(found.test)) == (16, 4, 6)
    assert found.label_names == ["one", "two"]
    shutil.copytree(tmp_path / "test", tmp_path / "val")
    found = open_set("inat18", tmp_path)
    assert (len(found.train), len(found.val), found.val_rule) == (20, 6, "the folder val")
    layouts.picture(tmp_path / "test/three/1.jpg", 2)
    with pytest.raises(UserError, match="three is a class"):
        open_set("places205", tmp_path)


def test_joined_sources(tmp_path: Path) -> None:
    layouts.dtd(tmp_path)
    found = open_set("dtd", tmp_path)
    joined = found.fitted
    assert isinstance(joined, Joined)
    assert paths(joined) == [*paths(found.train), *paths(found.val)]
    assert joined.labels is not None and len(joined.labels) == 30
    assert joined.read(20) == found.val.read(5)
