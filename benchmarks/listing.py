"""How long a folder of many images takes to be listed: for the first time, and from the cache.

    python benchmarks/listing.py [--files 1000000] [--folder FOLDER]

The files are hard links to a few images, 1,000 in a folder, below a temporary folder that is taken away.
"""

import argparse
import os
import resource
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from gemel.data.listing import cache_folder
from gemel.data.sources import open_source
from gemel.reports.tables import Table, markdown

LINKS = 50_000
"""to one file: ext4 allows 65,000"""


def write_links(folder: Path, files: int) -> None:
    """Folders of 1,000 links each; names are texts, since a million Path objects cost more than the links."""
    for start in range(0, files, 1000):
        place = f"{folder}/{start // 1000:05}"
        os.mkdir(place)  # noqa: PTH102
        if start % LINKS == 0:
            image = f"{place}/{start:08}.ppm"
            Path(image).write_bytes(b"P6 1 1 255\n\0\0\0")
        for number in range(start + (start % LINKS == 0), min(start + 1000, files)):
            os.link(image, f"{place}/{number:08}.ppm")


def listed(folder: Path, files: int) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    wall, worked = time.perf_counter(), time.process_time()
    assert len(open_source(folder)) == files
    return time.perf_counter() - wall, time.process_time() - worked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    asked = parser.parse_args()
    with TemporaryDirectory(dir=asked.folder) as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        photos = Path(folder) / "photos"
        photos.mkdir()
        write_links(photos, asked.files)
        time.sleep(0.2)  # a folder that has just changed is not remembered
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rows: list[tuple[str, ...]] = []
        for name in ("first", "cached"):
            wall, worked = listed(photos, asked.files)
            rows.append((name, f"{wall:.2f}", f"{worked:.2f}"))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1000
        place = cache_folder()
        kept = sum(file.stat().st_size for file in place.rglob("*.listing")) if place and place.is_dir() else 0
        print(markdown(Table("", (f"{asked.files:,} files", "seconds", "of the processor"), tuple(rows))))
        print(f"\nPeak memory grew by {grown:.0f} MB; the cache has {kept / 1e6:.0f} MB.\n")


if __name__ == "__main__":
    main()
