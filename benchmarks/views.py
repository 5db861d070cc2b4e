"""What views cost, beside the papers' pipeline and other libraries, and where their time goes: two tables.

    python benchmarks/views.py [--rounds 7]

Milliseconds of one core an image (CPU time of the one thread, so that other programs on the machine count little): all
run in turns, several rounds; given is each one's best round. `pipelines.py` has what is compared. Peers that are not
installed are left out, which is told: lightly, albumentations, kornia.
"""

import argparse
import random
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from itertools import count

import numpy as np
import torch
from pipelines import BATCH, FILES, Peers, gemel, multi_crop, one_small_view, two_views
from torch.nn import functional

from gemel.data import decode as decoding
from gemel.data.augment import crop
from gemel.data.jpeg import jpeg_pixels
from gemel.data.photometric import blur_weights, finish, steps_of
from gemel.data.views import PhotoDraw, draw
from gemel.reports.tables import Table, markdown
from gemel.settings.recipes import PhotoViews

CASES = {
    "2 x 224": two_views,
    "2 x 224 + 12 x 96": multi_crop,
    "1 x 32 of an array of 32 x 32": one_small_view,
}
OPTIONAL = ("lightly", "albumentations", "kornia")


def spent(action: Callable[[], object], times: int) -> float:
    begin = time.thread_time()
    for _ in range(times):
        action()
    return (time.thread_time() - begin) / times * 1e3


def best(actions: Peers, rounds: int, times: int) -> dict[str, float]:
    """Each one's best round, ms a time; they run in turns."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds + 1):  # the first warms up
        for name, action in actions.items():
            random.seed(0)
            torch.manual_seed(0)
            found[name].append(spent(action, times))
    return {name: min(taken[1:]) for name, taken in found.items()}


def versions() -> dict[str, str]:
    """The peers' versions; of those that are not installed, none."""
    found: dict[str, str] = {}
    for name in OPTIONAL:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            print(f"{name} is not installed and left out: pip install '.[bench]'\n")
    return found


def beside(rounds: int) -> Table:
    installed = versions()
    found = {case: best(peers(), rounds, BATCH * (10 if "32" in case else 1)) for case, peers in CASES.items()}
    names = list(found["2 x 224"])
    rows: list[tuple[str, ...]] = []
    for case, taken in found.items():
        floats, pixels = taken["gemel, floats"], taken["gemel, bytes"]
        cells = [said(taken[name]) if name in taken else "" for name in names]
        for place, name in enumerate(names):
            if name in taken and not name.startswith("gemel"):
                cells[place] += f" ({taken[name] / floats:.1f}, {taken[name] / pixels:.1f})"
        rows.append((case, *cells))
    return Table("", ("views", *(f"{name} {installed.get(name, '')}".strip() for name in names)), tuple(rows))


def said(milliseconds: float) -> str:
    return f"{milliseconds:.{3 if milliseconds < 0.1 else 2 if milliseconds < 10 else 1}f}"


class Parts:
    """What is done for two views at 224, piece by piece, on the same images and draws."""

    def __init__(self) -> None:
        self.views = PhotoViews()
        self.files = [FILES[number % 2] for number in range(BATCH)]
        self.pixels = [decoding.decode(file) for file in self.files]
        draws = [self.drawn(epoch=0, number=number) for number in range(2 * BATCH)]
        self.draws = [one for one in draws if isinstance(one, PhotoDraw)]
        self.cut = [self.part(number, one) for number, one in enumerate(self.draws)]
        self.tensors = [torch.from_numpy(part)[None].permute(0, 3, 1, 2) for part in self.cut]
        self.crops = [crop(self.pixels[number // 2], one).reshape(-1) for number, one in enumerate(self.draws)]
        self.steps = [steps_of(one) for one in self.draws]
        self.weights = [blur_weights(one.sigma) for one in self.draws]
        self.out = np.empty((2 * BATCH, 3, 224, 224), np.uint8)
        self.epochs = count(1)

    def drawn(self, epoch: int, number: int) -> object:
        keys = {"seed": 0, "epoch": epoch, "index": number // 2, "view": number % 2}
        return draw(self.views, **keys, height=375, width=500, size=224)

    def part(self, number: int, one: PhotoDraw) -> np.ndarray:
        image = self.pixels[number // 2]
        return image[one.top : one.top + one.height, one.left : one.left + one.width].copy()

    def draw(self) -> None:
        epoch = next(self.epochs)
        for number in range(2 * BATCH):
            self.drawn(epoch, number)

    def interpolate(self) -> None:
        for tensor in self.tensors:
            functional.interpolate(tensor, (224, 224), mode="bicubic", antialias=True)

    def crop(self) -> None:
        for number, one in enumerate(self.draws):
            crop(self.pixels[number // 2], one)

    def write(self) -> None:
        for _ in range(2):
            np.empty((BATCH, 224, 224, 3), np.float32).fill(1)

    def finish(self, *, steps: bool, blur: bool) -> None:
        none, sharp = (np.empty(0, np.int64), np.empty(0, np.float32)), np.ones(1, np.float32)
        for number, one in enumerate(self.draws):
            codes, factors = self.steps[number] if steps else none
            weights = self.weights[number] if blur else sharp
            finish(self.crops[number], 3, one.flip, codes, factors, weights, one.solarize, self.out[number])


def parts(rounds: int) -> Table:
    """Where the time goes, an image; the floor is what the work itself costs, in the library that is fastest at it.

    That of floats is to write as many into new memory.
    """
    one, two = Parts(), gemel(PhotoViews(), 224, FILES)
    floats = gemel(PhotoViews(), 224, FILES, floats=True)
    taken = best(
        {
            "decode": lambda: [decoding.decode(file) for file in one.files],
            "libjpeg": lambda: [jpeg_pixels(file, "RGB") for file in one.files],
            "draw": one.draw,
            "crop": one.crop,
            "interpolate": one.interpolate,
            "finish": lambda: one.finish(steps=True, blur=True),
            "no blur": lambda: one.finish(steps=True, blur=False),
            "planes": lambda: one.finish(steps=False, blur=False),
            "all": lambda: [two() for _ in range(BATCH)],
            "floats": lambda: [floats() for _ in range(BATCH)],
            "write": one.write,
        },
        rounds,
        1,
    )
    ms = {name: spent_there / BATCH for name, spent_there in taken.items()}
    rest = ms["all"] - ms["decode"] - ms["draw"] - ms["crop"] - ms["finish"]
    lines: list[tuple[str, float, float | None]] = [
        ("libjpeg-turbo: bytes to pixels, to the bit", ms["libjpeg"], ms["libjpeg"]),
        ("Pillow: format, size, orientation", ms["decode"] - ms["libjpeg"], None),
        ("random numbers of both views", ms["draw"], None),
        ("torch: resize with antialias", ms["interpolate"], ms["interpolate"]),
        ("cut out before it, to memory in order after it", ms["crop"] - ms["interpolate"], None),
        ("pixels to planes of floats, flip, solarise, to bytes", ms["planes"], ms["planes"]),
        ("brightness, contrast, saturation, hue, grey", ms["no blur"] - ms["planes"], ms["no blur"] - ms["planes"]),
        ("blur", ms["finish"] - ms["no blur"], ms["finish"] - ms["no blur"]),
        ("all that holds it together", rest, None),
        ("two views of bytes", ms["all"], sum(ms[name] for name in ("libjpeg", "interpolate", "finish"))),
        ("normalised floats of them, by the batch", ms["floats"] - ms["all"], ms["write"]),
    ]
    rows = tuple((name, f"{taken:.2f}", "" if floor is None else f"{floor:.2f}") for name, taken, floor in lines)
    return Table("", ("2 x 224, an image", "ms", "floor"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("Milliseconds of one core an image; behind them, how many times what gemel takes to floats, and to bytes.\n")
    print(markdown(beside(asked.rounds)), flush=True)
    print(f"\n{markdown(parts(5 * asked.rounds))}\n")


if __name__ == "__main__":
    main()
