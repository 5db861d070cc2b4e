"""Batches are filled by threads in order, a bounded number ahead; decoded images are kept within their budget."""

import multiprocessing
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from conftest import write_photos
from gemel.data import image_cache
from gemel.data.batches import InferenceLoader, Loader
from gemel.data.decode import Unreadable
from gemel.data.image_cache import ImageCache
from gemel.data.pixel_values import Decoding
from gemel.data.plan import Plan
from gemel.data.sources import open_source
from gemel.data.threaded_loader import PREFETCHED, Rows, assembled
from gemel.errors import UserError
from gemel.settings.recipes import PhotoViews


class Numbers(Rows):
    def __init__(self, number: int) -> None:
        super().__init__(5, [4], Decoding())
        self.number = number

    def fill(self, rows: range) -> None:
        time.sleep(0.001 * (7 - self.number % 7))  # later ones are ready sooner
        for row in rows:
            self.row(row)[0][:] = 10 * self.number + row


@pytest.mark.parametrize("workers", [0, 1, 3, 8])
def test_batches_come_whole_and_in_order(workers: int) -> None:
    for number, batch in enumerate(assembled(Numbers, range(12), workers)):
        assert batch.views[0][:, 0, 0, 0].tolist() == [10 * number + row for row in range(5)]
        assert (batch.views[0] == batch.views[0][:, :1, :1, :1]).all()


def test_work_goes_a_bounded_way_ahead_and_ends_with_its_user() -> None:
    begun: list[int] = []

    def begin(number: int) -> Numbers:
        begun.append(number)
        return Numbers(number)

    found = assembled(begin, range(100), 2)
    for _ in range(3):
        next(found)
    assert len(begun) <= 3 + PREFETCHED
    found.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("views")]


def test_a_mistake_in_a_thread_reaches_the_user(tmp_path: Path) -> None:
    for path in write_photos(tmp_path, 6):
        path.write_bytes(b"")
    plan = Plan(open_source(tmp_path), PhotoViews(), 16, 0, 2)
    with pytest.raises(UserError, match="none of the 6 images"):
        list(Loader(plan, workers=2))


def test_threads_leave_the_warnings_alone(tmp_path: Path) -> None:
    write_photos(tmp_path, 12)
    before = list(warnings.filters)
    loader = iter(Loader(Plan(open_source(tmp_path), PhotoViews(), 16, 0, 2), workers=2))
    next(loader)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in loader:
            warnings.warn("ours", stacklevel=1)  # would be an error if a thread had changed the filters
    assert warnings.filters == before


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_files_in_the_inference_crops(tmp_path: Path, workers: int) -> None:
    paths = sorted(write_photos(tmp_path, 9))
    for index in (0, 3, 4, 5):
        paths[index].write_bytes(b"")
    loader = InferenceLoader(open_source(tmp_path), size=16, glyph=False, batch_size=3, workers=workers)
    found = [(crops.shape[0], index.tolist()) for crops, index in loader]
    assert found == [(2, [1, 2]), (3, [6, 7, 8])]
    assert set(loader.rejected) == {0, 3, 4, 5}


def test_images_are_kept_within_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(tmp_path, 4)
    source, loaded = open_source(tmp_path), []
    one = image_cache.load(source, 0)

    def load(source: object, index: int) -> np.ndarray:
        loaded.append(index)
        if index == 3:
            raise Unreadable("damaged")
        return one.copy()

    monkeypatch.setattr(image_cache, "load", load)
    memory = ImageCache(source, 2 * one.nbytes)
    for _ in range(2):
        for index in range(3):
            assert np.array_equal(memory.load(index), one)
        with pytest.raises(Unreadable):
            memory.load(3)
    assert loaded == [0, 1, 2, 3, 2, 3], "the first two are kept"
    assert 0 < image_cache.default_budget() <= image_cache.KEPT_BYTES


@pytest.mark.parametrize(
    "launcher",
    [
        {"RANK": "1", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
        {
            "SLURM_PROCID": "1",
            "SLURM_STEP_NUM_TASKS": "8",
            "SLURM_LOCALID": "1",
            "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
        },
    ],
    ids=["torchrun", "slurm"],
)
def test_the_processes_of_a_machine_share_its_memory(launcher: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    alone = image_cache.default_budget()
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    assert image_cache.default_budget() == alone // 4


def test_kept_images_change_no_view(tmp_path: Path) -> None:
    write_photos(tmp_path, 6)
    plan = Plan(open_source(tmp_path), PhotoViews(local_count=1), 16, 0, 3)
    caches = (ImageCache(plan.source, 0), None)
    without, within = (list(Loader(plan, range(4), workers=2, cache=cache)) for cache in caches)
    for one, two in zip(without, within, strict=True):
        assert all((a == b).all() for a, b in zip(one.views, two.views, strict=True))
        assert [view.shape[-1] for view in one.views] == [16, 16, 8]


def test_workers_are_threads_of_this_process(tmp_path: Path) -> None:
    write_photos(tmp_path, 12)
    batches = iter(Loader(Plan(open_source(tmp_path), PhotoViews(), 16, 0, 2), workers=2))
    next(batches)
    assert [thread for thread in threading.enumerate() if thread.name.startswith("views")]
    assert not multiprocessing.active_children()
    assert not next(batches).views[0].is_shared()
