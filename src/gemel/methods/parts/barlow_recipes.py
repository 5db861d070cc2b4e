"""Barlow Twins' recipes: the authors' table of batch sizes, solo-learn's settings, and one for small data."""

from collections.abc import Mapping
from typing import Any

from gemel.settings.recipes import AdamWOptimizer, LarsOptimizer, PhotoViews, Recipe

LOSS_SCALE = 0.024
"""of the authors' first code, whose one rate moved all; 0.2 · 0.024 = 0.0048 is the second rate of the released one"""

_RATES = {128: (0.7, 69.7), 256: (0.4, 70.7), 512: (0.3, 71.4), 1024: (0.25, 71.7), 4096: (0.2, 70.7)}
"""rate at a batch of 256 and printed top-1 of 300 epochs by batch size; 2048: rate 0.2, 71.4"""

_SOLO = "the networks' initial weights are timm's"


def _resnet50(batch_size: int, lr: float, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "views": PhotoViews(),
        "backbone": {"name": "resnet50"},
        "image_size": 224,
        "epochs": 300,
        "batch_size": batch_size,
        "optimizer": LarsOptimizer(lr=lr, bias_lr=round(lr * LOSS_SCALE, 6), weight_decay=1e-6, flavour="L1"),
    }
    return Recipe(**values | changes)


def _solo_lars(lr: float, **others: Any) -> LarsOptimizer:
    """Return solo-learn's optimiser, whose warm-up rises from a rate of 3e-5, both ends included, and cosine to 0."""
    return LarsOptimizer(lr=lr, final=0.0, warmup_start=3e-5 / lr, warmup_inclusive=True, **others)


_CLIPPED = _solo_lars(0.3, weight_decay=1e-4, trust=0.02, flavour="L5")


def _of_table(batch_size: int, lr: float, top1: float) -> Recipe:
    source = (
        f"the authors' table of batch sizes (facebookresearch/barlowtwins issue 7, Figure 2 of arXiv 2103.03230): "
        f"linear top-1 {top1} on ImageNet; their loss scale {LOSS_SCALE} is the rate of biases and norms here"
    )
    return _resnet50(batch_size, lr, source=source)


def _cifar(classes: int, top1: float, **colour: Any) -> Recipe:
    return Recipe(
        source=f"solo-learn's scripts/pretrain/cifar/barlow.yaml: linear top-1 {top1} on CIFAR-{classes}; {_SOLO}; "
        "its first convolution pads by 2, gemel's by 1",
        views=PhotoViews(blur=(0.0, 0.0), **colour),
        backbone={"name": "resnet18", "stem": "small"},
        image_size=32,
        epochs=1000,
        batch_size=256,
        images=50_000,
        optimizer=_CLIPPED,
        method={"projector": (2048, 2048, 2048), "loss_scale": 0.1},
    )


RECIPES: Mapping[str, Recipe] = {
    "resnet50": _resnet50(
        2048,
        0.2,
        source="released code of arXiv 2103.03230: linear top-1 73.5 on ImageNet (paper 73.2; 300 epochs: 71.4)",
        epochs=1000,
    ),
    **{f"resnet50_batch{size}": _of_table(size, lr, top1) for size, (lr, top1) in _RATES.items()},
    "resnet50_solo": _resnet50(
        256,
        0.8,
        source="solo-learn's scripts/pretrain/imagenet/barlow.yaml: linear top-1 67.23 on ImageNet (online 67.18); "
        f"{_SOLO}",
        epochs=100,
        optimizer=_solo_lars(0.8, weight_decay=1.5e-6, flavour="L4"),
        method={"projector": (4096, 4096, 4096), "loss_scale": 0.048},
    ),
    "cifar10": _cifar(10, 92.10, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    "cifar100": _cifar(100, 70.90, mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)),
    "imagenet100": Recipe(
        source="solo-learn's scripts/pretrain/imagenet-100/barlow.yaml: linear top-1 80.16 on ImageNet-100 (online "
        f"80.38); {_SOLO}",
        views=PhotoViews(),
        backbone={"name": "resnet18"},
        image_size=224,
        epochs=400,
        batch_size=256,
        images=126_689,
        optimizer=_CLIPPED,
        method={"projector": (2048, 2048, 2048), "loss_scale": 0.1},
    ),
    "small": Recipe(
        source="gemel's experiments on digits; results in the README",
        views=PhotoViews(),
        backbone={"name": "resnet18"},
        image_size=64,
        epochs=30,
        batch_size=128,
        images=5000,
        optimizer=AdamWOptimizer(lr=2e-3, weight_decay=1e-4),
        method={"projector": (512, 512, 512), "loss_scale": 0.1},
    ),
}
