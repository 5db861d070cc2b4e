"""The pass over images: kept, taken up again, shared by processes, and never changing the network."""

import json
import os
import shutil
from pathlib import Path
from threading import Event, Thread
from time import sleep

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import write_photos
from forked import together
from gemel.backbones.convnet import convnet
from gemel.data.sources import ArraySource, Source, open_source
from gemel.data.sources.parts import Joined
from gemel.errors import UserError
from gemel.evaluations import features
from gemel.evaluations.base import Subject
from gemel.evaluations.features import labelled, see

FILES = ["done.json", "features.npy", "indices.npy", "marks.npy"]
"""of a finished pass"""

FACTS = {"name": "convnet", "options": {}, "width": 16, "size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}


class Counting(nn.Module):
    """A backbone that counts the images that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.network = convnet(widths=(8, 16), strides=(2, 2), pool=1)
        self.images = 0
        self.stop_after: int | None = None

    def forward(self, images: Tensor) -> Tensor:
        if self.stop_after is not None and self.images >= self.stop_after:
            raise KeyboardInterrupt
        self.images += len(images)
        return self.network(images)


def subject(folder: Path, views: str = "glyph", network: nn.Module | None = None) -> Subject:
    torch.manual_seed(0)
    return Subject(network or Counting(), FACTS | {"views": views}, "a counting network", folder)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "CHUNK", 256)


def entry(folder: Path) -> Path:
    return next((folder / "cache" / "features").iterdir())


def test_one_pass_answers_every_question(tmp_path: Path) -> None:
    source, judged = open_source("digits"), subject(tmp_path)
    first = see(judged, source)
    assert judged.network.images == len(source)
    second = see(judged, open_source("digits"))
    assert judged.network.images == len(source)
    assert torch.equal(first.features, second.features)
    assert sorted(path.name for path in entry(tmp_path).iterdir()) == FILES
    assert first.features.shape == (1797, 16)
    assert first.features.dtype == torch.float32


def test_another_crop_network_or_list_is_another_pass(tmp_path: Path, photos: Path) -> None:
    judged, source = subject(tmp_path, "photo"), open_source(photos)
    see(judged, source)
    others: list[tuple[Subject, Source]] = [
        (Subject(judged.network, judged.facts | {"size": 20}, "", tmp_path), source),
        (Subject(judged.network, judged.facts | {"mean": [0.4] * 3}, "", tmp_path), source),
        (judged, source.subset(np.arange(10))),
    ]
    for number, (one, images) in enumerate(others, 2):
        see(one, images)
        assert len(list((tmp_path / "cache" / "features").iterdir())) == number
    with torch.no_grad():
        next(judged.network.parameters()).mul_(1.5)
    see(judged, source)
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 5


def test_a_changed_file_is_seen_anew(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "photos", 6)
    judged = subject(tmp_path / "out", "photo")
    before = see(judged, open_source(tmp_path / "photos")).features.clone()
    write_photos(tmp_path / "other", 6, seed=5)
    shutil.copy(tmp_path / "other" / paths[0].relative_to(tmp_path / "photos"), paths[0])
    assert not torch.equal(before, see(judged, open_source(tmp_path / "photos")).features)


def test_a_folder_that_grew_costs_its_new_images(tmp_path: Path) -> None:
    """Rows of the same images are taken over, whatever the list; those of changed files are not."""
    images = tmp_path / "images"
    write_photos(images, 40)
    files = sorted(images.rglob("*.jpg"))
    known = subject(tmp_path / "run", "photo")
    first = see(known, open_source(images))
    assert known.network.images == 40  # pyright: ignore[reportAttributeAccessIssue]
    for number in range(7):
        shutil.copy(files[number], images / f"new{number}.jpg")
    os.utime(files[3])
    files[5].unlink()
    judged = subject(tmp_path / "run", "photo")
    source = open_source(images)
    found = see(judged, source)
    assert judged.network.images == 8  # pyright: ignore[reportAttributeAccessIssue]
    fresh = see(subject(tmp_path / "other", "photo"), source)
    assert torch.equal(found.features, fresh.features)
    assert found.indices.tolist() == fresh.indices.tolist()
    assert len(found.features) == len(first.features) + 6
    other = subject(tmp_path / "run", "photo")
    with torch.no_grad():
        next(other.network.parameters()).add_(0.1)
    see(other, source)
    assert other.network.images == 46, "another network knows nothing"  # pyright: ignore[reportAttributeAccessIssue]


def test_other_pixels_behind_joined_sets_are_seen_anew(tmp_path: Path) -> None:
    judged = subject(tmp_path)
    black = np.zeros((4, 8, 8), np.uint8)
    bright = black + 200
    rows = [
        see(judged, Joined(ArraySource("one", black), ArraySource("two", second).subset(np.arange(3)))).features
        for second in (black, bright)
    ]
    assert torch.equal(rows[0][:4], rows[1][:4])
    assert not torch.isclose(rows[0][4:], rows[1][4:]).all(dim=1).any()


def test_interrupted_and_resumed_equals_unbroken(tmp_path: Path, small_chunks: None) -> None:
    source = open_source("digits")
    whole = see(subject(tmp_path / "whole"), source)
    broken = subject(tmp_path / "broken")
    broken.network.stop_after = 600
    with pytest.raises(KeyboardInterrupt):
        see(broken, source)
    assert not (entry(tmp_path / "broken") / "done.json").exists()
    broken.network.stop_after, broken.network.images = None, 0
    told: list[tuple[int, int]] = []
    again = see(broken, source, tell=lambda done, count: told.append((done, count)))
    assert broken.network.images == len(source) - 768, "three chunks were on the disk"
    assert told[0] == (1024, 1797)
    assert told[-1] == (1797, 1797)
    assert torch.equal(whole.features, again.features)


def by_engine(monkeypatch: pytest.MonkeyPatch, engine: str) -> list[int | None]:
    """Have an engine chosen; the list grows by the number of images for which it is asked."""
    asked: list[int | None] = []

    def choose(network: nn.Module, size: int, *, images: int | None = None) -> str:
        asked.append(images)
        return engine

    monkeypatch.setattr(features, "engine_for", choose)
    return asked


def test_features_by_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, judged = open_source("digits"), subject(tmp_path / "onnxruntime")
    by_torch = see(subject(tmp_path / "torch"), source).features
    asked = by_engine(monkeypatch, "onnxruntime")
    found = see(judged, source).features
    assert (asked, judged.network.images) == ([1797], 0), "the graph saw them all"
    assert not torch.equal(found, by_torch)
    torch.testing.assert_close(found, by_torch, rtol=0, atol=1e-5 * float(by_torch.abs().max()))
    assert sorted(path.name for path in entry(tmp_path / "onnxruntime").iterdir()) == FILES
    see(judged, source)
    assert asked == [1797], "what is there is read, whatever made it"


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_a_pass_is_continued_by_what_began_it(
    engine: str, tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last digit, whatever would be chosen now."""
    source = open_source("digits")
    by_engine(monkeypatch, engine)
    whole = see(subject(tmp_path / "whole"), source).features

    def stop(done: int, count: int) -> None:
        if done > 600:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        see(subject(tmp_path / "broken"), source, tell=stop)
    assert len(list(entry(tmp_path / "broken").glob("part-*.npz"))) == 2
    if engine == "torch":  # as versions of gemel left it that knew no other
        (entry(tmp_path / "broken") / "engine.txt").unlink()
    asked = by_engine(monkeypatch, "torch" if engine == "onnxruntime" else "onnxruntime")
    assert torch.equal(see(subject(tmp_path / "broken"), source).features, whole)
    assert not asked


@pytest.mark.parametrize("harm", ["cut", "gone", "nonsense"])
def test_a_damaged_cache_is_computed_again(tmp_path: Path, harm: str) -> None:
    source, judged = open_source("digits"), subject(tmp_path)
    before = see(judged, source).features.clone()
    file = entry(tmp_path) / "features.npy"
    if harm == "cut":
        os.truncate(file, file.stat().st_size // 2)
    elif harm == "gone":
        file.unlink()
    else:
        (entry(tmp_path) / "done.json").write_text("{")
    judged.network.images = 0
    assert torch.equal(before, see(judged, source).features)
    assert judged.network.images == len(source)


@pytest.mark.parametrize("harm", ["cut", "nonsense", "other columns"])
def test_a_damaged_part_is_computed_again(tmp_path: Path, harm: str, small_chunks: None) -> None:
    source, judged = open_source("digits"), subject(tmp_path)
    judged.network.stop_after = 600
    with pytest.raises(KeyboardInterrupt):
        see(judged, source)
    first, *others = sorted(entry(tmp_path).glob("part-*.npz"))
    assert len(others) == 2
    if harm == "cut":
        os.truncate(first, first.stat().st_size // 2)
    elif harm == "nonsense":
        first.write_bytes(b"nonsense")
    else:
        np.savez(first, tried=np.arange(256), readable=np.arange(256), rejected=np.frombuffer(b"[]", np.uint8))
    judged.network.stop_after, judged.network.images = None, 0
    expected = see(subject(tmp_path / "other"), source).features
    assert torch.equal(see(judged, source).features, expected)
    assert judged.network.images == len(source) - 512


def test_unreadable_images_leave_no_rows(tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "photos", 8)
    clean = see(subject(tmp_path / "clean", "photo"), open_source(tmp_path / "photos"))
    paths[3].write_bytes(b"no image")
    source = open_source(tmp_path / "photos", labels="folders")
    for _ in range(2):  # made, then read
        seen = see(subject(tmp_path / "out", "photo"), source)
        lost = next(iter(seen.rejected))
        assert source.path(lost) == str(paths[3])
        assert seen.indices.tolist() == [place for place in range(8) if place != lost]
        torch.testing.assert_close(seen.features, clean.features[torch.from_numpy(seen.indices)])
        assert seen.labels is not None and source.labels is not None
        assert seen.labels.tolist() == source.labels[seen.indices].tolist()
    part = seen.at(np.array([lost, 1, 0]))
    assert part.indices.tolist() == [place for place in (0, 1) if place != lost]
    for path in paths:
        path.write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(UserError, match="none of the 8 images"):
            see(subject(tmp_path / "out", "photo"), open_source(tmp_path / "photos"))


class Moving(nn.Module):
    """Not frozen: its batch norm forgets to be in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        self.norm.train()
        return self.norm(images).mean((2, 3)).repeat(1, 6)[:, :16]


def test_a_network_that_moves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="changed while it was judged"):
        see(subject(tmp_path, network=Moving()), open_source("digits"))
    assert not (entry(tmp_path) / "done.json").exists()


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    judged = subject(tmp_path)
    judged.network.train()
    judged.network.network.network[1].eval()
    before = {name: value.clone() for name, value in judged.network.state_dict().items()}
    see(judged, open_source("digits"))
    assert judged.network.training
    assert not judged.network.network.network[1].training
    assert all(torch.equal(before[name], value) for name, value in judged.network.state_dict().items())


def test_mistakes(tmp_path: Path) -> None:
    source = open_source("digits", labels="none")
    seen = see(subject(tmp_path), source)
    with pytest.raises(UserError, match="0 labels"):
        labelled(seen)
    source.labels = np.zeros(len(source), np.int64)
    with pytest.raises(UserError, match="one class"):
        labelled(seen)
    source.labels[5:] = 1
    seen.features[3, 2] = torch.nan
    with pytest.raises(UserError, match="NaN or infinite"):
        labelled(seen)
    assert bool(see(subject(tmp_path), source).features.isfinite().all()), "the file is as it was"
    with pytest.raises(UserError, match="16 features, not 17"):
        see(Subject(Counting(), FACTS | {"views": "glyph", "width": 17}, "", tmp_path), source)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written"):
        see(subject(tmp_path / "file"), source)


def test_a_second_command_waits_for_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, first, second = open_source("digits"), subject(tmp_path), subject(tmp_path)
    other = Thread(target=lambda: see(second, source))
    waiting = Event()

    def tell(done: int, count: int) -> None:
        if not waiting.is_set():
            other.start()
            while "waiting" not in capsys.readouterr().out:
                sleep(0.01)
            waiting.set()

    rows = see(first, source, tell=tell)
    other.join()
    assert (first.network.images, second.network.images) == (len(source), 0)
    assert torch.equal(rows.features, see(second, source).features)
    assert not list((tmp_path / "cache").glob("*.lock"))


def features_of_digits(folder: Path) -> tuple[Tensor, int]:
    judged = subject(folder)
    seen = see(judged, open_source("digits"))
    return seen.features.clone(), judged.network.images


def test_several_processes_equal_one(tmp_path: Path) -> None:
    alone = see(subject(tmp_path / "alone"), open_source("digits"))
    seen = together(2, features_of_digits, tmp_path / "shared")
    for rows, _ in seen:
        torch.testing.assert_close(rows, alone.features, rtol=1e-6, atol=1e-6)
    assert [images for _, images in seen] == [899, 898], "each image once"


def test_facts_of_the_entry(tmp_path: Path) -> None:
    see(subject(tmp_path), open_source("digits"))
    done = json.loads((entry(tmp_path) / "done.json").read_text())
    assert (done["rows"], done["rejected"], done["engine"]) == (1797, {}, "torch")
