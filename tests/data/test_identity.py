"""Which image is it: files, links and copies; hashes that change with the images and with nothing else."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from gemel.data.sources import ArraySource, Source, open_source
from gemel.data.sources import identity as identities
from gemel.data.sources.identity import fingerprint, first_listed, groups, shared, version_key
from gemel.data.sources.parts import Joined

TIME = 315_532_800


def write(folder: Path, **contents: str) -> Source:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.bmp").write_text(content)
        os.utime(folder / f"{name}.bmp", (TIME, TIME))
    return open_source(folder)


def test_a_fingerprint_is_of_the_images_wherever_they_lie(tmp_path: Path) -> None:
    known = fingerprint(write(tmp_path / "a", one="first", two="other"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert fingerprint(open_source(tmp_path / "b")) == known
    (tmp_path / "b").rename(tmp_path / "c")
    assert fingerprint(open_source(tmp_path / "c")) == known
    others = [
        write(tmp_path / "content", one="first", two="OTHER"),
        write(tmp_path / "size", one="first", two="others"),
        write(tmp_path / "name", one="first", three="other"),
        write(tmp_path / "fewer", one="first"),
        write(tmp_path / "swapped", one="other", two="first"),
    ]
    assert known not in map(fingerprint, others)
    assert len(set(map(fingerprint, others))) == len(others)


def test_a_fingerprint_of_many_images_reads_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "SIZES", 10)
    monkeypatch.setattr(identities, "CONTENTS", 4)
    source = write(tmp_path, **{f"{number:03}": "x" for number in range(100)})
    known = fingerprint(source)
    (tmp_path / "000.bmp").write_text("y")
    assert fingerprint(source) != known
    (tmp_path / "000.bmp").write_text("x")
    (tmp_path / "001.bmp").write_text("y")
    assert fingerprint(source) == known, "not of the sample"


def test_the_version_of_a_file_cannot_be_restored(tmp_path: Path) -> None:
    """Neither by equal names, sizes and times elsewhere, nor by another file at the same path."""
    one, two = write(tmp_path / "a", x="first"), write(tmp_path / "b", x="other")
    known = version_key(one)
    assert version_key(two) != known
    assert version_key(pickle.loads(pickle.dumps(one))) == known
    (tmp_path / "link").symlink_to("a")
    assert version_key(open_source(tmp_path / "link")) == known
    write(tmp_path / "a", x="other")
    assert version_key(one) != known
    shutil.rmtree(tmp_path / "a")
    assert version_key(one) != known, "gone"


def test_one_file_by_many_paths(tmp_path: Path) -> None:
    write(tmp_path / "a", x="first", y="other", z="first")
    os.link(tmp_path / "a/x.bmp", tmp_path / "a/hard.bmp")
    (tmp_path / "link.bmp").symlink_to("a/y.bmp")
    lines = ["a/x.bmp", "a/../a/x.bmp", "a/y.bmp", "link.bmp", "a/hard.bmp", str(tmp_path / "a/y.bmp"), "a/z.bmp"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    source = open_source(tmp_path / "list.txt")
    assert first_listed(source).tolist() == [0, 2, 6], "a copy is another file"
    assert groups(source).tolist() == [0, 0, 2, 2, 0, 2, 0], "and the same image"
    subset = source.subset(np.array([3, 6, 5, 4]))
    assert first_listed(subset).tolist() == [0, 1, 3]
    assert groups(subset).tolist() == [0, 1, 0, 1]
    assert shared(source, subset).all()


def test_arrays() -> None:
    images = np.random.default_rng(0).integers(256, size=(6, 4, 4)).astype(np.uint8)
    images[5] = images[0]
    source = ArraySource("one", images)
    assert first_listed(source).tolist() == list(range(6))
    assert groups(source).tolist() == [0, 1, 2, 3, 4, 0]
    assert first_listed(source.subset(np.array([2, 2, 1]))).tolist() == [0, 2]
    other = ArraySource("two", images[3:5].copy())
    assert shared(source, other).tolist() == [False, False, False, True, True, False]
    assert first_listed(Joined(source, other)).tolist() == list(range(8))
    assert fingerprint(source) != fingerprint(ArraySource("one", images[::-1]))
    assert version_key(source) != version_key(ArraySource("one", images + 1))


def test_files_alone_are_compared_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = write(tmp_path / "a", x="first", y="other")
    two = write(tmp_path / "b", z="first")
    (tmp_path / "b/w.bmp").symlink_to(tmp_path / "a/y.bmp")
    two = open_source(tmp_path / "b")
    assert shared(one, two).tolist() == [True, True]
    monkeypatch.setattr(identities, "COMPARED", 1)
    assert shared(one, two).tolist() == [False, True]


def test_files_that_are_gone(tmp_path: Path) -> None:
    source = write(tmp_path, x="first", y="first")
    for name in ("x", "y"):
        (tmp_path / f"{name}.bmp").unlink()
    assert first_listed(source).tolist() == [0, 1]
    assert groups(source).tolist() == [0, 1]
    assert fingerprint(source) == fingerprint(source)
