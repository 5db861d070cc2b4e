"""The papers' views by other libraries and by gemel, each as a function that makes the views of one image.

Files are two photographs, 500 x 375, quality 90. All crop, flip, jitter, grey, blur and solarise by the numbers of
Barlow Twins; albumentations and kornia resize without antialias, so that their pixels are others.
"""

import io
import os
import random
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import count
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from sklearn.datasets import load_sample_images
from torchvision import io as torchvision_io
from torchvision import transforms
from torchvision.transforms import v2

from gemel.data.decode import decode
from gemel.data.drawing import put_views
from gemel.data.normalise import Normalise
from gemel.settings.recipes import PhotoViews
from gemel.settings.view_presets import VIEW_FAMILIES

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 20
"""images; every round is of as many, or a multiple, with the same draws"""
Peers = dict[str, Callable[[], object]]
"""what makes the views of one image, by the library's name"""


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


def gemel(views: PhotoViews, size: int, images: list[Any], *, floats: bool = False) -> Callable[[], object]:
    """Views of one image into a batch; bytes, or floats as the other libraries give them.

    Args:
        floats: normalise the batch whenever it is full, as training does on its device.
    """
    batch = [torch.empty((BATCH, 3, side, side), dtype=torch.uint8) for side in views.sizes(size)]
    out, normalise, places = [view.numpy() for view in batch], Normalise(MEAN, STD), count()

    def one() -> object:
        row = next(places) % BATCH
        given = images[row % len(images)]
        image = decode(given) if isinstance(given, bytes) else given
        put_views(views, image, [view[row] for view in out], seed=0, epoch=0, index=row)
        return [normalise(view) for view in batch] if floats and row == BATCH - 1 else None

    return one


def ours(views: PhotoViews, size: int, images: list[Any]) -> Peers:
    return {
        "gemel, floats": gemel(views, size, images, floats=True),
        "gemel, bytes": gemel(views, size, images),
    }


def two_views() -> Peers:
    peers: Peers = {
        **ours(PhotoViews(), 224, FILES),
        "papers, Pillow": from_files(papers(1.0, 0.0), papers(0.1, 0.2)),
        "torchvision v2, Pillow": from_files(papers(1.0, 0.0, t=v2), papers(0.1, 0.2, t=v2)),
    }
    first, second = on_tensors(1.0, 0.0), on_tensors(0.1, 0.2)

    def tensors() -> object:
        image = torchvision_io.decode_jpeg(torch.frombuffer(bytearray(random.choice(FILES)), dtype=torch.uint8))
        return first(image), second(image)

    peers["torchvision v2, tensors"] = tensors
    if find_spec("lightly"):
        from lightly.transforms import BYOLTransform

        peers["lightly"] = from_files(BYOLTransform())
    if find_spec("albumentations"):
        peers["albumentations"] = albumentations_two()
    if find_spec("kornia"):
        peers["kornia"] = kornia_two()
    return peers


def multi_crop() -> Peers:
    peers: Peers = {
        **ours(VIEW_FAMILIES["twist_multicrop"], 224, FILES),
        "papers, Pillow": from_files(
            papers(1.0, 0.0, 224, (0.4, 1.0)),
            papers(0.1, 0.2, 224, (0.4, 1.0)),
            *[papers(0.5, 0.0, 96, (0.05, 0.4))] * 12,
        ),
    }
    if find_spec("lightly"):
        from lightly.transforms import DINOTransform

        peers["lightly"] = from_files(
            DINOTransform(n_local_views=12, global_crop_scale=(0.4, 1.0), local_crop_scale=(0.05, 0.4))
        )
    return peers


def one_small_view() -> Peers:
    pillow, second, tensors = papers(0, 0, 32), papers(0, 0, 32, t=v2), on_tensors(0, 0, 32)
    return {
        **ours(PhotoViews(global_count=1, blur=0.0), 32, SMALL),
        "papers, Pillow": lambda: pillow(Image.fromarray(random.choice(SMALL))),
        "torchvision v2, Pillow": lambda: second(Image.fromarray(random.choice(SMALL))),
        "torchvision v2, tensors": lambda: tensors(torch.from_numpy(random.choice(SMALL)).permute(2, 0, 1)),
    }
