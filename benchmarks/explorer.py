"""The explorer: seconds to make it, its size, first paint, frames while panning.  python benchmarks/explorer.py

Images are JPEGs of 160 x 120, cut from scikit-learn's two photographs; from 20,000 on they are linked several times.
Their features are the colours of 48 squares, their classes those of k-means. Needs playwright and Debian's chromium.
"""

import argparse
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from playwright.sync_api import sync_playwright
from sklearn.cluster import KMeans
from sklearn.datasets import load_sample_images

from gemel.api.explore import serving
from gemel.data.picture_sheets import COLUMNS, all_sheets, side_of
from gemel.data.sources import open_source
from gemel.evaluations.features import Seen, Top
from gemel.evaluations.image_map.image_map import map_table, write_map
from gemel.reports.explorer import BUDGET, IN_A_FILE, PictureFacts, write_explorer
from gemel.runs.run import Run

FILES = 20_000
PAN = """async () => {
  const { camera, map } = window.explorer;
  camera.zoom(%s); map.draw();
  await new Promise((done) => setTimeout(done, 1500));
  const before = map.frames, start = performance.now();
  for (let step = 0; performance.now() - start < 3000; step++) {
    camera.pan(step %% 80 < 40 ? 6 : -6, step %% 60 < 30 ? 4 : -4); map.draw();
    await new Promise(requestAnimationFrame);
  }
  return (map.frames - before) / (performance.now() - start) * 1000;
}"""


def photographs(folder: Path, count: int) -> np.ndarray:
    """Write images, and return features (N, 48 x 3)."""
    originals = load_sample_images().images
    random, features = np.random.default_rng(0), []
    for number in range(min(count, FILES)):
        photograph = originals[number % 2]
        scale = int(random.integers(1, 4))
        top, left = (int(random.integers(0, side - edge * scale + 1)) for side, edge in ((427, 120), (640, 160)))
        image = Image.fromarray(photograph[top : top + 120 * scale : scale, left : left + 160 * scale : scale])
        path = folder / f"{number // 1000:02}" / f"{number:06}.jpg"
        path.parent.mkdir(exist_ok=True, parents=True)
        image.save(path, quality=85)
        features.append(np.asarray(image.resize((8, 6), Image.Resampling.BOX), np.float32).ravel() / 255)
    for number in range(FILES, count):
        path = folder / f"{number // 1000:03}-linked" / f"{number:06}.jpg"
        path.parent.mkdir(exist_ok=True)
        os.link(folder / f"{number % FILES // 1000:02}" / f"{number % FILES:06}.jpg", path)
    found = np.stack(features)[np.arange(count) % len(features)]
    return found + random.normal(0, 0.03, found.shape).astype(np.float32)


def run_of(folder: Path, count: int) -> tuple[Run, Seen]:
    features = torch.from_numpy(photographs(folder / "images", count))
    run = folder / "run"
    (run / "evaluations").mkdir(parents=True)
    settings = {"images": str(folder / "images"), "labels": None, "method": {"name": "twist"}}
    (run / "run.yaml").write_text(yaml.safe_dump(settings))
    model = KMeans(30, n_init=1, random_state=0).fit(features[:FILES].numpy())
    probability = torch.softmax(-torch.from_numpy(model.transform(features.numpy())).float() * 3, 1)
    values, classes = probability.topk(8, 1)
    seen = Seen(open_source(str(folder / "images")), np.arange(count), features, Top(values, classes.int(), 30), {})
    return Run(run), seen


def memory() -> int:
    """Return the megabytes of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024


def until(page: Any, expression: str) -> None:
    while not page.evaluate(expression):  # the page's policy forbids what Playwright's own waiting does
        time.sleep(0.005)


def looked_at(browser: Any, address: str, *, script: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    began = time.perf_counter()
    page.goto(address, wait_until="commit")
    until(page, "window.explorer && window.explorer.map.frames > 0")
    first = time.perf_counter() - began
    until(page, "window.explorer.sheets.loaded.size > 0")
    pictures = time.perf_counter() - began
    page.wait_for_selector("html[data-ready]")
    ready = time.perf_counter() - began
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN") / 1000
    print(f"  first paint {paint:.2f} s, map {first:.2f} s, pictures {pictures:.2f} s, all read {ready:.2f} s")
    for name, zoom in (("whole map", 1), ("nearer", 4), ("nearer still", 4)):
        print(f"  panning, {name}: {page.evaluate(script % zoom):.0f} frames a second", flush=True)
    page.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=FILES)
    parser.add_argument("--served", action="store_true", help="only the served page")
    parser.add_argument("--folder", type=Path, help="where images and run are kept for another time")
    chosen = parser.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp())
    if not (folder / "run" / "evaluations" / "map.parquet").is_file():
        run, seen = run_of(folder, chosen.images)
        began = time.perf_counter()
        table = map_table(seen)
        write_map(run, table)
        mapped = time.perf_counter()
        indices = table["index"].to_numpy()[:IN_A_FILE]
        made = all_sheets(seen.source, indices, side_of(seen.source, len(indices)), BUDGET)
        write_explorer(run, table, PictureFacts(made.side, made.kind, COLUMNS), made.sheets)
        print(f"map {mapped - began:.1f} s, page {time.perf_counter() - mapped:.1f} s, pictures of {made.side} pixels")
        print(f"explorer.html {run.explorer_path.stat().st_size / 1e6:.1f} MB", flush=True)
    run = Run(folder / "run")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        if not chosen.served:
            print("from the disk")
            looked_at(browser, run.explorer_path.as_uri(), script=PAN)
        with serving(run) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            print("served")
            looked_at(browser, server.address, script=PAN)
            print(f"  memory of the server, torch loaded: {memory()} MB")
            server.shutdown()
        browser.close()
    if chosen.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
