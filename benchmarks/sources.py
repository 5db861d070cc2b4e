"""The same images from every kind of source: equal views, their speed beside the folder's; archives of many members.

    python benchmarks/sources.py [--images 2000] [--members 1000000] [--rounds 5] [--weights]

What tests/data/packed.py writes: a folder of JPEG files, and the same in archives, shards, tables and a database. A
round goes through all kinds, one epoch each, without kept images; the median of the rounds counts.
"""

import argparse
import io
import os
import resource
import struct
import sys
import tarfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "data"))

from packed import KINDS

import gemel
from gemel.data.batches import Loader
from gemel.data.image_cache import ImageCache
from gemel.data.plan import Batch, Plan
from gemel.data.sources import Source, open_source
from gemel.reports.tables import Table, markdown
from gemel.settings.recipes import PhotoViews

SIZE, BATCH = 64, 100


def write_photographs(folder: Path, count: int) -> list[Path]:
    """Parts of scikit-learn's two photographs, as JPEG files of 160 x 120."""
    random, photographs = np.random.default_rng(0), load_sample_images().images
    for number in range(count):
        photograph = photographs[number % 2]
        top, left = (int(random.integers(0, room)) for room in (photograph.shape[0] - 120, photograph.shape[1] - 160))
        path = folder / "ab"[number % 2] / f"{number:05}.png"  # the name that packed.py knows; the content is JPEG
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph[top : top + 120, left : left + 160]).save(path, "JPEG", quality=90)
    return sorted(folder.rglob("*.png"))


def epoch(source: Source) -> tuple[float, list[Batch]]:
    """Seconds of an epoch, and its first batches."""
    plan = Plan(source, PhotoViews(), SIZE, 0, BATCH)
    kept: list[Any] = []
    begin = time.perf_counter()
    for number, batch in enumerate(Loader(plan, cache=ImageCache(source, 0))):
        if number < 3:
            kept.append(batch)
    return time.perf_counter() - begin, kept


def write_members(place: Path, count: int) -> dict[str, Path]:
    """A zip and a tar of many members of one byte, in folders of a thousand; the libraries would take minutes."""
    files = {"zip": place / "many.zip", "tar": place / "many.tar"}
    names = [f"{number // 1000:04}/{number:08}.jpg".encode() for number in range(count)]
    with files["zip"].open("wb") as archive:
        directory, crc = io.BytesIO(), zlib.crc32(b"x")
        for name in names:
            offset = archive.tell()
            facts = struct.pack(
                "<HHHHIIIHH", 0, 0, 0, 33, crc, 1, 1, len(name), 0
            )  # stored, on the first of January 1980
            archive.write(b"PK\3\4\x14\0" + facts + name + b"x")
            directory.write(b"PK\1\2\x14\0\x14\0" + facts + struct.pack("<HHHII", 0, 0, 0, 0, offset) + name)
        start, size = archive.tell(), directory.tell()
        archive.write(directory.getvalue())
        archive.write(b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, size, start))
        archive.write(b"PK\6\7" + struct.pack("<IQI", 0, start + size, 1))
        archive.write(b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0))
    member = tarfile.TarInfo("0")
    member.size = 1
    block = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    block[148:156] = b" " * 8
    rest = sum(block) - block[0]
    with files["tar"].open("wb") as archive:
        for name in names:
            block[: len(name)] = name
            block[148:156] = b"%06o\0 " % (rest + sum(name))
            archive.write(block + b"x" + bytes(511))
        archive.write(bytes(1024))
    return files


def opened(file: Path, count: int) -> float:
    begin = time.perf_counter()
    source = open_source(file)
    seconds = time.perf_counter() - begin
    assert len(source) == count
    assert source.read(count // 3) == b"x"
    return seconds


def many(place: Path, count: int) -> None:
    rows: list[tuple[str, ...]] = []
    for kind, file in write_members(place, count).items():
        os.utime(file, ns=(10**18, 10**18))  # an archive that has just changed is not remembered
        first, again = opened(file, count), opened(file, count)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        rows.append((kind, f"{count:,}", f"{first:.1f}", f"{again:.2f}", f"{peak:.1f}"))
    print(markdown(Table("Archives", ("archive", "members", "first, s", "again, s", "peak so far, GB"), tuple(rows))))


def sources_of(place: Path, images: int) -> dict[str, str]:
    """The same images in every kind of place, by its name."""
    files = write_photographs(place / "images", images)
    places = {"folder": str(place / "images")}
    for kind, write in KINDS.items():
        name = write(place, place / "images", files)
        places[kind] = name if "://" in name else str(place / name)
    return places


def speeds(places: Mapping[str, str], images: int, rounds: int) -> None:
    """Images a second from each source, whose views must be the folder's."""
    sources = {kind: open_source(words) for kind, words in places.items()}
    seconds: dict[str, list[float]] = {kind: [] for kind in sources}
    wanted = epoch(sources["folder"])[1]
    for _ in range(rounds):
        for kind, source in sources.items():
            spent, batches = epoch(source)
            seconds[kind].append(spent)
            for one, two in zip(wanted, batches, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(one.views, two.views, strict=True)), kind
    base = median(seconds["folder"])
    rows = [(kind, f"{images / median(spent):,.0f}", f"{base / median(spent):.2f}") for kind, spent in seconds.items()]
    print(markdown(Table("Sources", ("source", "images/s", "of the folder's"), tuple(rows))))


def weights(places: Mapping[str, str], out: Path) -> None:
    """Train an epoch from each source; the weights must be the folder's."""
    words: dict[str, Any] = {
        "method": {"name": "barlow_twins", "projector": [64, 64]},
        "backbone": {"name": "convnet", "widths": [8, 16], "strides": [2, 2], "pool": 1},
        "epochs": 1,
        "batch_size": 100,
        "image_size": 16,
        "workers": 0,
        "threads": 1,
        "quiet": True,
    }
    found = {
        kind: gemel.backbone(gemel.pretrain(place, out=out / kind, **words)).state_dict()
        for kind, place in places.items()
    }
    for kind, tensors in found.items():
        assert all(torch.equal(value, found["folder"][name]) for name, value in tensors.items()), kind
    print(f"weights after an epoch: equal from {', '.join(found)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", action="store_true", help="train an epoch from each, too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        if asked.images:
            places = sources_of(Path(folder), asked.images)
            if asked.rounds:
                speeds(places, asked.images, asked.rounds)
            if asked.weights:
                weights(places, Path(folder) / "runs")
        if asked.members:
            many(Path(folder), asked.members)


if __name__ == "__main__":
    main()
