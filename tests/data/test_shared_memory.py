"""Workers hand batches over through /dev/shm: they are no more than fit there."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gemel.data import batches
from gemel.data.batches import InferenceLoader, Loader, Plan, fitting_workers
from gemel.data.sources import open_source
from gemel.recipes import GlyphViews

CAN_MOUNT = (
    shutil.which("unshare") is not None
    and subprocess.run(
        ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /dev/shm"], capture_output=True, check=False
    ).returncode
    == 0
)

SLOW = """
import sys, time
from gemel.data import batches
from gemel.data.sources import open_source
from gemel.recipes import GlyphViews

plan = batches.Plan(open_source("digits"), GlyphViews(), 64, 0, int(sys.argv[1]))
if sys.argv[2] == "bare":  # as many workers as asked for, whatever the room
    found = batches._loader(batches._Steps(plan), range(4), 2)
else:
    found = batches.Loader(plan, epochs=1, workers=2)
    print(f"{found.workers} workers; {found.note}")
for number, _ in enumerate(found):
    time.sleep(0.3)  # training is slower than the workers: all that they prepare lies in shared memory
    if number == 3:
        break
print("to the end")
"""


def test_as_many_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(64_000_000, 0, 64_000_000))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert fitting_workers(0, 10**12) == (0, "")
    assert fitting_workers(4, 5_000_000) == (4, "")  # 10 batches of 5 MB are 50 of 51.2
    workers, note = fitting_workers(8, 5_000_000)
    assert workers == 4
    assert note.startswith("workers: 4 instead of 8 (/dev/shm has 64 MB free, 8 workers need 112; ")
    assert fitting_workers(4, 100_000_000)[0] == 0
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # processes of one machine share it
    assert fitting_workers(4, 5_000_000)[0] == 1
    monkeypatch.setattr(batches, "SHARED_MEMORY", Path("/nowhere"))
    assert fitting_workers(4, 10**12) == (4, "")


def test_loaders_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1_000_000, 0, 1_000_000))
    source = open_source("digits")
    loader = Loader(Plan(source, GlyphViews(), 32, 0, 256), epochs=1, workers=2)
    assert loader.workers == 0
    assert "workers: 0 instead of 2" in loader.note
    assert len(list(loader)) == 7
    crops = InferenceLoader(source, size=32, glyph=True, workers=2)
    assert crops.workers == 0
    assert crops.note
    small = InferenceLoader(source, size=32, glyph=True, workers=2, batch_size=4)
    assert (small.workers, small.note) == (2, "")


def in_little_memory(batch: int, how: str) -> subprocess.Popen[str]:
    script = f'mount -t tmpfs -o size=8m tmpfs /dev/shm && exec "{sys.executable}" -c "$SLOW" {batch} {how}'
    environment = os.environ | {"SLOW": SLOW, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        ["unshare", "-m", "sh", "-c", script],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.skipif(not CAN_MOUNT, reason="a file system cannot be mounted here")
@pytest.mark.parametrize(("batch", "workers"), [(32, 2), (60, 1), (256, 0)])
def test_in_a_small_shared_memory(batch: int, workers: int) -> None:
    told, errors = in_little_memory(batch, "fitted").communicate()
    assert told.splitlines()[-1] == "to the end", errors
    assert told.startswith(f"{workers} workers; ")
    assert ("instead of 2" in told) == (workers < 2)


@pytest.mark.skipif(not CAN_MOUNT, reason="a file system cannot be mounted here")
def test_what_would_happen_otherwise() -> None:
    """A worker fails and the trainer waits for its batch for ever, or the worker dies of a bus error."""
    process = in_little_memory(256, "bare")
    assert process.stderr is not None
    try:
        assert any("shared memory" in line or "Bus error" in line for line in process.stderr)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
