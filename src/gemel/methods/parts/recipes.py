"""Recipes that methods share: the papers' ImageNet runs, solo-learn's settings, and ours for small data."""

from collections.abc import Mapping
from typing import Any, TypeVar

from gemel.settings.recipes import (
    AdamOptimizer,
    AdamWOptimizer,
    LarsOptimizer,
    Optimizer,
    PhotoViews,
    Recipe,
    SgdOptimizer,
)
from gemel.settings.view_presets import VIEW_FAMILIES

SOLO = "the networks' initial weights are timm's"
PADDING = "its first convolution pads by 2, gemel's by 1"
"""what differs from solo-learn's runs"""

CIFAR: Mapping[int, Mapping[str, Any]] = {
    10: {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)},
    100: {"mean": (0.5071, 0.4865, 0.4409), "std": (0.2673, 0.2564, 0.2762)},
}

ZERO_INIT = {"name": "resnet50"}
RESNET50 = {"name": "resnet50", "zero_init": False}
"""as released codes begin: with the last norm of each block at 0, or at 1"""

_Rate = TypeVar("_Rate", LarsOptimizer, SgdOptimizer, AdamOptimizer)


def changed(views: str, **changes: Any) -> PhotoViews:
    """Return views of `settings.view_presets` with some settings changed."""
    return PhotoViews.model_validate({**VIEW_FAMILIES[views].model_dump(), **changes})


def imagenet(
    source: str,
    optimizer: Optimizer,
    *,
    epochs: int,
    batch_size: int,
    views: PhotoViews | str = "byol",
    backbone: Mapping[str, Any] = RESNET50,
    method: Mapping[str, Any] | None = None,
) -> Recipe:
    """Return a paper's run on ImageNet at 224 pixels."""
    return Recipe(
        source=source,
        views=VIEW_FAMILIES[views] if isinstance(views, str) else views,
        backbone=backbone,
        image_size=224,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        method=method or {},
    )


def warmed(optimizer: _Rate, start: float = 3e-5) -> _Rate:
    """Return an optimiser with solo-learn's rate: from `start` in 10 epochs, both ends included, then cosine to 0."""
    changes = {"final": 0.0, "warmup_start": start / optimizer.lr, "warmup_inclusive": True}
    return optimizer.model_copy(update=changes)


def solo_lars(lr: float, weight_decay: float) -> LarsOptimizer:
    """Return solo-learn's LARS on CIFAR and ImageNet-100, which steps by min(trust ratio, rate)."""
    return warmed(LarsOptimizer(lr=lr, weight_decay=weight_decay, trust=0.02, flavour="L5"))


def solo(
    file: str,
    top1: tuple[float, float, float],
    optimizer: Optimizer,
    *,
    views: PhotoViews | str,
    method: Mapping[str, Any],
    imagenet100: Mapping[str, Any] | None = None,
    note: str = "",
) -> dict[str, Recipe]:
    """Return solo-learn's recipes of a method for CIFAR-10, CIFAR-100 and ImageNet-100, all of ResNet-18.

    Args:
        file: its name below scripts/pretrain/cifar and scripts/pretrain/imagenet-100.
        top1: printed linear top-1 on the three; the last of the classifier trained alongside.
        optimizer: of CIFAR.
        views: of CIFAR.
        method: the method's options.
        imagenet100: what differs there: views, optimizer, method.
        note: what else differs from solo-learn's run.
    """
    found: dict[str, Recipe] = {}
    views = VIEW_FAMILIES[views] if isinstance(views, str) else views
    base: dict[str, Any] = {"views": views, "optimizer": optimizer, "method": method, "batch_size": 256}
    notes = "; ".join(one for one in (SOLO, note) if one)
    for (classes, colour), printed in zip(CIFAR.items(), top1, strict=False):
        seen: dict[str, Any] = base | {"views": views.model_copy(update=colour)}
        found[f"cifar{classes}"] = Recipe(
            **seen,
            source=f"solo-learn's scripts/pretrain/cifar/{file}.yaml: linear top-1 {printed} on CIFAR-{classes}; "
            f"{notes}; {PADDING}",
            backbone={"name": "resnet18", "stem": "small"},
            image_size=32,
            epochs=1000,
            images=50_000,
        )
    found["imagenet100"] = Recipe(
        **base | dict(imagenet100 or {}),
        source=f"solo-learn's scripts/pretrain/imagenet-100/{file}.yaml: online linear top-1 {top1[2]} on "
        f"ImageNet-100; {notes}",
        backbone={"name": "resnet18"},
        image_size=224,
        epochs=400,
        images=126_689,
    )
    return found


def small(method: Mapping[str, Any], *, source: str = "", **changes: Any) -> Recipe:
    """Return a recipe for thousands of small images."""
    values: dict[str, Any] = {
        "source": source or "gemel's settings for small data: those of Barlow Twins, heads of this method's shape",
        "views": PhotoViews(),
        "backbone": {"name": "resnet18"},
        "image_size": 64,
        "epochs": 30,
        "batch_size": 128,
        "images": 5000,
        "optimizer": AdamWOptimizer(lr=2e-3, weight_decay=1e-4),
        "method": method,
    }
    return Recipe(**values | changes)
