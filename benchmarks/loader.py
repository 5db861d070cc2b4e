"""What the loader takes and gives: images a second, seconds to the first batch, bytes copied, memory of a worker.

    python benchmarks/loader.py [--images 256] [--epochs 5] [--rounds 3]

Batches of 32 images, two views at 224, from a folder of JPEGs of 500 x 375. Each line is measured in a process of its
own, in turns; given is each one's best round, and the median of the rounds' ratios. Whoever takes the batches does
nothing else with them.

first batch: seconds from the making of a loader to its first batch, reading the kept compiled code included, imports
and the listing of the folder not. copied: bytes of views that do not lie where a worker wrote them, an image. unique
memory: workers are threads, so that they have no memory of their own in the system's books: the most private memory of
the process (Private_Clean + Private_Dirty of smaps_rollup; files and libraries shared with others left out) while it
loads, less the same without workers, for each worker. Two processes: two loaders without workers side by side, as the
most that the machine gives. Lock: of the time of an image, what a thread waits for another one (Python's lock), by the
scheduler's account, which other programs on the machine do not change.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch

from gemel.data.augment import Pixels
from gemel.data.batches import Loader
from gemel.data.decode import pillow_warns_nobody
from gemel.data.image_cache import ImageCache
from gemel.data.plan import Batch, Plan
from gemel.data.sources import open_source
from gemel.data.threaded_loader import Rows
from gemel.reports.tables import Table, markdown
from gemel.settings.recipes import PhotoViews

Measured = dict[str, float]
SIDES: dict[str, tuple[int, int, int]] = {  # processes, workers of each, bytes of decoded images that are kept
    "no worker": (1, 0, 0),
    "1 worker": (1, 1, 0),
    "2 workers": (1, 2, 0),
    "2 workers, images kept decoded": (1, 2, 10**9),
    "2 processes without workers": (2, 0, 0),
}


def private_memory() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def addresses_of_rows() -> set[int]:
    """Where views are written from now on."""
    found: set[int] = set()
    given: Callable[[Rows, int], list[Pixels]] = Rows.row

    def row(self: Rows, number: int) -> list[Pixels]:
        views = given(self, number)
        found.update(view.ctypes.data for view in views)
        return views

    Rows.row = row
    return found


def one(folder: str, workers: int, memory: int, epochs: int) -> Measured:
    """Load the folder in this process."""
    torch.set_num_threads(1)
    plan, written = Plan(open_source(folder), PhotoViews(), 224, 0, 32), addresses_of_rows()
    begin = time.perf_counter()
    steps = range(epochs * plan.steps_per_epoch)
    loader = Loader(plan, steps, workers=workers, cache=ImageCache(plan.source, memory))
    batches = (batch for batch in loader if isinstance(batch, Batch))
    next(batches)
    start = time.perf_counter()
    images = copied = peak = 0
    for batch in islice(batches, (epochs - 1) * plan.steps_per_epoch):
        images += len(batch.views[0])
        copied += sum(view.nbytes for views in batch.views for view in views.numpy() if view.ctypes.data not in written)
    rate = images / (time.perf_counter() - start)
    for _ in batches:  # the rest: to look at the memory takes time of its own
        peak = max(peak, private_memory())
    return {"rate": rate, "first": start - begin, "copied": copied / images, "private": peak}


def run(folder: str, side: str, epochs: int) -> Measured:
    """One side in new processes: the sum of their images a second, the mean of the rest."""
    processes, workers, memory = SIDES[side]
    words = [sys.executable, "-W", "ignore", __file__, "--one", folder, str(workers), str(memory), str(epochs)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, env=alone) for _ in range(processes)]
    found: list[Measured] = [json.loads(process.communicate()[0]) for process in started]
    return {name: sum(each[name] for each in found) / (1 if name == "rate" else processes) for name in found[0]}


def table(found: dict[str, list[Measured]]) -> Table:
    """Of each side its best round; the ratio to one worker is the median of those of the rounds."""
    fastest = {side: max(one["rate"] for one in rounds) for side, rounds in found.items()}
    least = {side: min(one["private"] for one in rounds) for side, rounds in found.items()}
    rows: list[tuple[str, ...]] = []
    for side, rounds in found.items():
        processes, workers, _ = SIDES[side]
        ratios = [one["rate"] / beside["rate"] for one, beside in zip(rounds, found["1 worker"], strict=True)]
        own = max(0.0, least[side] - least["no worker"]) / workers / 1e6 if workers else 0.0
        rows.append((
            side,
            f"{fastest[side]:.0f}",
            f"{median(ratios):.2f}",
            f"{min(one['first'] for one in rounds):.2f}",
            f"{max(one['copied'] for one in rounds):.0f}",
            f"{own:.0f}" if workers else "",
            f"{least[side] / 1e6:.0f}" if processes == 1 else "",
        ))  # fmt: skip
    heads = ("loader", "images / s", "of 1 worker", "first batch, s", "bytes copied / image")
    return Table("", (*heads, "unique MB a worker", "private MB in all"), tuple(rows))


def side_by_side(threads: int, images: int) -> tuple[str, ...]:
    """Threads that prepare views: ms that they work and that they wait for each other, an image."""
    from pipelines import FILES, gemel

    spans: list[tuple[float, float]] = []

    def work() -> None:
        make, account = gemel(PhotoViews(), 224, FILES), Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        make()
        begin, (ran, queued) = time.perf_counter(), map(int, account.read_text().split()[:2])
        for _ in range(images):
            make()
        wall, (ran_after, queued_after) = time.perf_counter() - begin, map(int, account.read_text().split()[:2])
        ran_for, queued_for = (ran_after - ran) / 1e9, (queued_after - queued) / 1e9
        spans.append((ran_for, max(0.0, wall - ran_for - queued_for)))

    with pillow_warns_nobody():
        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    ran, waited = (float(np.mean([span[part] for span in spans])) / images * 1e3 for part in (0, 1))
    return str(threads), f"{ran:.2f}", f"{waited:.2f}", f"{threads / (ran + waited) * 1e3:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256, help="files of the folder, which is made")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=4, metavar="WORD", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        folder, *numbers = asked.one
        print(json.dumps(one(folder, *map(int, numbers))))
        return
    from pipelines import FILES  # here, since the processes that load need none of it, and it takes seconds

    found: dict[str, list[Measured]] = {side: [] for side in SIDES}
    with TemporaryDirectory() as folder:
        for number in range(asked.images):
            (Path(folder) / f"{number}.jpg").write_bytes(FILES[number % len(FILES)])
        for side in list(SIDES) * asked.rounds:
            found[side].append(run(folder, side, asked.epochs))
            print(f"{side}: {found[side][-1]['rate']:.0f} images / s", file=sys.stderr, flush=True)
    print(markdown(table(found)), flush=True)
    torch.set_num_threads(1)
    heads = ("threads", "work, ms an image", "lock, ms an image", "images / s if each has a core")
    print(f"\n{markdown(Table('', heads, tuple(side_by_side(threads, 20 * 20) for threads in (1, 2, 4))))}\n")


if __name__ == "__main__":
    main()
