"""Barlow Twins' recipes: the authors' table of batch sizes, solo-learn's settings, and one for small data."""

from collections.abc import Mapping
from typing import Any

from gemel.methods.parts.recipes import SOLO, small, solo, solo_lars, warmed
from gemel.settings.recipes import LarsOptimizer, PhotoViews, Recipe

LOSS_SCALE = 0.024
"""of the authors' first code, whose one rate moved all; 0.2 · 0.024 = 0.0048 is the second rate of the released one"""

_RATES = {128: (0.7, 69.7), 256: (0.4, 70.7), 512: (0.3, 71.4), 1024: (0.25, 71.7), 4096: (0.2, 70.7)}
"""rate at a batch of 256 and printed top-1 of 300 epochs by batch size; 2048: rate 0.2, 71.4"""


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


def _of_table(batch_size: int, lr: float, top1: float) -> Recipe:
    source = (
        f"the authors' table of batch sizes (facebookresearch/barlowtwins issue 7, Figure 2 of arXiv 2103.03230): "
        f"linear top-1 {top1} on ImageNet; their loss scale {LOSS_SCALE} is the rate of biases and norms here"
    )
    return _resnet50(batch_size, lr, source=source)


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
        f"{SOLO}",
        epochs=100,
        optimizer=warmed(LarsOptimizer(lr=0.8, weight_decay=1.5e-6, flavour="L4")),
        method={"projector": (4096, 4096, 4096), "loss_scale": 0.048},
    ),
    **solo(
        "barlow",
        (92.10, 70.90, 80.38),
        solo_lars(0.3, 1e-4),
        views="solo_cifar_asymmetric",
        method={"projector": (2048, 2048, 2048), "loss_scale": 0.1},
        imagenet100={"views": PhotoViews()},
    ),
    "small": small(
        {"projector": (512, 512, 512), "loss_scale": 0.1}, source="gemel's experiments on digits; results in the README"
    ),
}
