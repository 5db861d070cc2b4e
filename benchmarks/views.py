"""What views cost, beside the papers' pipeline and other libraries: one JSON line a case.

    python benchmarks/views.py [--rounds 7] [--images 20] [--case two_views ...]

Milliseconds of one core an image (CPU time of the one thread, so that other programs on the machine count little): the
cases run in turns, several rounds; given is each one's best round. Files are two photographs, 500 x 375, quality 90.
Peers that are not installed are left out: lightly, albumentations (2.0.8 was compared), kornia.
"""

import argparse
import io
import json
import os
import random
import resource
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from sklearn.datasets import load_sample_images
from torchvision import io as torchvision_io
from torchvision import transforms
from torchvision.transforms import v2

from gemel.data.assembly import PREFETCHED
from gemel.data.augment import crop, put
from gemel.data.batches import Loader, Plan, put_views
from gemel.data.decode import decode, pillow_warns_nobody
from gemel.data.photometric import blur_weights, finish, steps_of
from gemel.data.sources import open_source
from gemel.data.views import PhotoDraw, draw
from gemel.families import VIEW_FAMILIES
from gemel.recipes import PhotoViews

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Peers = dict[str, Callable[[], object]]


def encode(photo: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo).resize((500, 375), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


FILES = [encode(photo) for photo in load_sample_images().images]
SMALL = [np.asarray(Image.open(io.BytesIO(file)).resize((32, 32))) for file in FILES]


class Sometimes:
    """Blur and solarise as the papers' code has them."""

    def __init__(self, chance: float, change: Callable[[Any], Any]) -> None:
        self.chance, self.change = chance, change

    def __call__(self, image: Any) -> Any:
        return self.change(image) if random.random() < self.chance else image


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


def papers(
    blur: float, solarize: float, size: int = 224, scale: tuple[float, float] = (0.08, 1.0), t: Any = None
) -> Any:
    """The pipeline of Barlow Twins, VICReg, TWIST and DINO; by torchvision's second version where `t` is v2."""
    t = t or transforms
    ends = [t.ToTensor()] if t is transforms else [t.ToImage(), t.ToDtype(torch.float32, scale=True)]
    return t.Compose([
        t.RandomResizedCrop(size, scale=scale, interpolation=transforms.InterpolationMode.BICUBIC),
        t.RandomHorizontalFlip(),
        t.RandomApply([t.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
        t.RandomGrayscale(0.2),
        Sometimes(blur, blurred),
        Sometimes(solarize, partial(ImageOps.solarize, threshold=128)),
        *ends,
        t.Normalize(MEAN, STD),
    ])  # fmt: skip


def on_tensors(blur: float, solarize: float, size: int = 224) -> Any:
    return v2.Compose([
        v2.RandomResizedCrop(size, scale=(0.08, 1.0), interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], p=blur),
        v2.RandomSolarize(128, solarize),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ])  # fmt: skip


def albumentations_two() -> Callable[[], object]:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations as a
    import cv2

    cv2.setNumThreads(1)

    def one(blur: float, solarize: float) -> Any:
        return a.Compose([
            a.RandomResizedCrop((224, 224), scale=(0.08, 1.0), interpolation=cv2.INTER_CUBIC),
            a.HorizontalFlip(),
            a.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1), p=0.8),
            a.ToGray(p=0.2),
            a.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=blur),
            a.Solarize(threshold_range=(0.5, 0.5), p=solarize),
            a.Normalize(MEAN, STD),
        ])  # fmt: skip

    first, second = one(1.0, 0.0), one(0.1, 0.2)

    def views() -> object:
        image = cv2.imdecode(np.frombuffer(random.choice(FILES), np.uint8), cv2.IMREAD_COLOR_RGB)
        return first(image=image), second(image=image)

    return views


def kornia_two() -> Callable[[], object]:
    import kornia.augmentation as k

    def one(blur: float, solarize: float) -> Any:
        return torch.nn.Sequential(
            k.RandomResizedCrop((224, 224), scale=(0.08, 1.0), resample="bicubic"),
            k.RandomHorizontalFlip(),
            k.ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8),
            k.RandomGrayscale(p=0.2),
            k.RandomGaussianBlur((23, 23), (0.1, 2.0), p=blur),
            k.RandomSolarize(0.0, 0.0, p=solarize),
            k.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        )

    first, second = one(1.0, 0.0), one(0.1, 0.2)

    def views() -> object:
        image = torchvision_io.decode_jpeg(torch.frombuffer(bytearray(random.choice(FILES)), dtype=torch.uint8))
        floats = image[None] / 255
        return first(floats), second(floats)

    return views


def opened() -> Image.Image:
    return Image.open(io.BytesIO(random.choice(FILES))).convert("RGB")


def from_files(first: Any, *others: Any) -> Callable[[], object]:
    def views() -> object:
        image = opened()
        return [transform(image) for transform in (first, *others)]

    return views


def gemel(views: PhotoViews, size: int, images: list[Any]) -> Callable[[], object]:
    out = [np.empty((3, side, side), np.uint8) for side in views.sizes(size)]
    places = iter(range(10**9))

    def one() -> object:
        given, place = random.choice(images), next(places)
        put_views(views, decode(given) if isinstance(given, bytes) else given, out, seed=0, epoch=0, index=place)
        return out

    return one


def two_views() -> Peers:
    peers: Peers = {
        "gemel": gemel(PhotoViews(), 224, FILES),
        "pillow": from_files(papers(1.0, 0.0), papers(0.1, 0.2)),
        "torchvision v2 on Pillow": from_files(papers(1.0, 0.0, t=v2), papers(0.1, 0.2, t=v2)),
    }
    first, second = on_tensors(1.0, 0.0), on_tensors(0.1, 0.2)

    def tensors() -> object:
        image = torchvision_io.decode_jpeg(torch.frombuffer(bytearray(random.choice(FILES)), dtype=torch.uint8))
        return first(image), second(image)

    peers["torchvision v2 on tensors"] = tensors
    if find_spec("lightly"):
        from lightly.transforms import BYOLTransform

        peers["lightly BYOLTransform"] = from_files(BYOLTransform())
    if find_spec("albumentations"):
        peers["albumentations (no antialias)"] = albumentations_two()
    if find_spec("kornia"):
        peers["kornia (no antialias)"] = kornia_two()
    return peers


def multi_crop() -> Peers:
    peers: Peers = {
        "gemel": gemel(VIEW_FAMILIES["twist_multicrop"], 224, FILES),
        "pillow": from_files(
            papers(1.0, 0.0, 224, (0.4, 1.0)),
            papers(0.1, 0.2, 224, (0.4, 1.0)),
            *[papers(0.5, 0.0, 96, (0.05, 0.4))] * 12,
        ),
    }
    if find_spec("lightly"):
        from lightly.transforms import DINOTransform

        peers["lightly DINOTransform"] = from_files(
            DINOTransform(n_local_views=12, global_crop_scale=(0.4, 1.0), local_crop_scale=(0.05, 0.4))
        )
    return peers


def small() -> Peers:
    views = PhotoViews(blur=(0.0, 0.0))
    out, places = np.empty((3, 32, 32), np.uint8), iter(range(10**9))
    pillow, second, tensors = papers(0, 0, 32), papers(0, 0, 32, t=v2), on_tensors(0, 0, 32)

    def ours() -> object:
        numbers = draw(views, seed=0, epoch=0, index=next(places), view=0, height=32, width=32, size=32)
        return put(random.choice(SMALL), numbers, out)

    return {
        "gemel": ours,
        "torchvision on Pillow": lambda: pillow(Image.fromarray(random.choice(SMALL))),
        "torchvision v2 on Pillow": lambda: second(Image.fromarray(random.choice(SMALL))),
        "torchvision v2 on tensors": lambda: tensors(torch.from_numpy(random.choice(SMALL)).permute(2, 0, 1)),
    }


def spent(action: Callable[[], object], times: int) -> float:
    begin = time.thread_time()
    for _ in range(times):
        action()
    return (time.thread_time() - begin) / times * 1e3


def compare(case: str, peers: Peers, rounds: int, images: int) -> dict[str, Any]:
    best: dict[str, float] = {}
    for number in range(rounds + 1):  # the first warms up
        for name, action in peers.items():
            random.seed(number)
            torch.manual_seed(number)
            taken = spent(action, images)
            best[name] = min(best.get(name, 1e9), taken) if number else 1e9
    times = {name: round(taken / best["gemel"], 2) for name, taken in best.items() if name != "gemel"}
    return {"case": case, "ms": {name: round(taken, 3) for name, taken in best.items()}, "gemel_is_faster": times}


def parts(rounds: int, images: int) -> dict[str, Any]:
    """Where the time of two views goes, an image; the floor: each part on its own, without what holds them together."""
    views, image, out = PhotoViews(), decode(FILES[0]), np.empty((3, 224, 224), np.uint8)
    draws = [
        draw(views, seed=0, epoch=0, index=i, view=i % 2, height=375, width=500, size=224) for i in range(2 * images)
    ]
    photos = [one for one in draws if isinstance(one, PhotoDraw)]
    crops = [crop(image, one).reshape(-1) for one in photos]
    ready = [(*steps_of(one), blur_weights(one.sigma)) for one in photos]

    def drawing() -> None:
        for i in range(2 * images):
            draw(views, seed=0, epoch=1, index=i, view=i % 2, height=375, width=500, size=224)

    def finishing() -> None:
        for pixels, one, (codes, factors, weights) in zip(crops, photos, ready, strict=True):
            finish(pixels, 3, one.flip, codes, factors, weights, one.solarize, out)

    actions: dict[str, Callable[[], object]] = {
        "decode": lambda: [decode(FILES[0]) for _ in range(images)],
        "draw": drawing,
        "crop and resize": lambda: [crop(image, one) for one in photos],
        "flip, jitter, grey, blur, solarise": finishing,
        "all": lambda: [gemel_one() for _ in range(images)],
    }
    gemel_one = gemel(views, 224, FILES[:1])
    best = {name: min(spent(action, 1) for _ in range(rounds)) / images for name, action in actions.items()}
    return {"case": "parts of two_views", "ms": {name: round(taken, 3) for name, taken in best.items()}}


def loading(workers: int, folder: Path, memory: int) -> dict[str, Any]:
    """Batches of two views at 224 by wall time: of the first, and of the images a second after it."""
    plan = Plan(open_source(folder), PhotoViews(), 224, 0, 32)
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    batches = iter(Loader(plan, epochs=4, workers=workers, memory=memory))
    next(batches)
    first, images, start = time.perf_counter() - begin, 0, time.perf_counter()
    for batch in batches:
        images += len(batch.index)
    rate = (images + PREFETCHED * plan.batch_size) / (time.perf_counter() - start)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "case": "loader",
        "workers": workers,
        "kept_images_mb": memory // 10**6,
        "first_batch_seconds": round(first, 3),
        "images_per_second": round(rate, 1),
        "bytes_copied_an_image": 0,  # views are written where the batch lies
        "mb_grown": round(grown / 1000, 1),
    }


def side_by_side(threads: int, images: int) -> dict[str, Any]:
    """Threads that prepare views: time that they work, and that they wait for each other (Python's lock), an image.

    From the scheduler's own account, without the time that they wait for a core: other programs count little.
    """
    spans: list[tuple[float, float]] = []

    def work() -> None:
        one, account = gemel(PhotoViews(), 224, FILES), Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        one()
        begin, (ran, queued) = time.perf_counter(), map(int, account.read_text().split()[:2])
        for _ in range(images):
            one()
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
    rate = threads / (ran + waited) * 1e3
    return {
        "case": "threads",
        "threads": threads,
        "work_ms": round(ran, 3),
        "lock_ms": round(waited, 3),
        "images_per_second_with_a_core_each": round(rate, 1),
    }


def main() -> None:
    cases = {"two_views": two_views, "multi_crop": multi_crop, "small": small}
    every = [*cases, "parts", "threads", "loader"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--case", nargs="*", choices=every, default=every)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.case:
        if name in cases:
            images = asked.images * (10 if name == "small" else 1)
            print(json.dumps(compare(name, cases[name](), asked.rounds, images)), flush=True)
    if "parts" in asked.case:
        print(json.dumps(parts(asked.rounds, asked.images)), flush=True)
    if "threads" in asked.case:
        for threads in (1, 2, 4):
            print(json.dumps(side_by_side(threads, 20 * asked.images)), flush=True)
    if "loader" in asked.case:
        with TemporaryDirectory() as folder:
            for number in range(256):
                (Path(folder) / f"{number}.jpg").write_bytes(FILES[number % len(FILES)])
            for workers, memory in ((0, 0), (1, 0), (2, 0), (2, 10**9)):
                print(json.dumps(loading(workers, Path(folder), memory)), flush=True)


if __name__ == "__main__":
    main()
