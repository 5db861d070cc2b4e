"""W-MSE: equal whitened embeddings."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from gemel.data.plan import Batch
from gemel.distributed import from_first, gather, world_size
from gemel.errors import UserError
from gemel.methods.base import Method
from gemel.methods.parts.contrast import check_pairs, unit
from gemel.methods.parts.heads import mlp
from gemel.methods.parts.precision import exact_products, widened
from gemel.methods.parts.recipes import changed, small, solo, warmed
from gemel.settings.recipes import AdamOptimizer, Count, PhotoViews, Recipe, Share, Widths

Measure = Literal["cosine", "squares"]


def w_mse_loss(
    views: Sequence[Tensor],
    permutations: Tensor,
    *,
    size: int | None = None,
    shrinkage: float = 0.0,
    measure: Measure = "cosine",
) -> dict[str, Tensor]:
    r"""Return the mean over pairs of views of 2 - 2 cos(w_i, w_j), w whitened in sub-batches; 0..4.

    Sub-batches are drawn anew for each permutation, the same for all views; all embeddings take gradients. Source:
    arXiv 2007.06346 and its released code.

    Args:
        views: raw embeddings of V >= 2 views, (n, D) each, this process's rows.
        permutations: of the N rows of all processes, the same on each, (I, N).
        size: rows of a sub-batch, more than D and a divisor of N; None: N.
        shrinkage: ε of the covariance (1 - ε) Σ + ε I, in [0, 1).
        measure: cosine; squares: mean squares of w_i - w_j, which are D times smaller for rows of length 1.

    Returns:
        loss, and similarity, the mean cosine of an image's whitened views, -1..1.

    Raises:
        ValueError: fewer than two views, or shapes that differ or are not (n, D).
    """
    check_pairs(*views)
    if len(views) < 2:
        raise ValueError("two views or more are needed")
    with exact_products(views[0].device):
        everywhere = [gather(widened(view)) for view in views]
        distances, cosines = list[Tensor](), list[Tensor]()
        for order in permutations:
            white = [whiten(rows, order, size=size or len(rows), shrinkage=shrinkage) for rows in everywhere]
            directions = [unit(rows) for rows in white]
            cosines += [(one * two).sum(1).mean() for one, two in combinations(directions, 2)]
            if measure == "squares":
                distances += [(one - two).square().mean() for one, two in combinations(white, 2)]
        similarity = torch.stack(cosines).mean()
        loss = torch.stack(distances).mean() if measure == "squares" else 2 - 2 * similarity
    return {"loss": loss, "similarity": similarity}


def whiten(rows: Tensor, order: Tensor, *, size: int, shrinkage: float = 0.0) -> Tensor:
    """Return L⁻¹ (h - μ) by sub-batch, L Lᵀ = 1/(m - 1) Σ (h - μ)(h - μ)ᵀ of its m rows: mean 0, covariance I.

    Args:
        rows: h, (N, D), in float32 or wider.
        order: a permutation of them, whose consecutive parts are the sub-batches.
        size: m, more than D; a divisor of N.
        shrinkage: ε of the covariance (1 - ε) Σ + ε I.

    Returns:
        (N, D), rows in their own order; NaN where a covariance has no full rank: no device waits to find out.

    Raises:
        UserError: the rows are not made of whole sub-batches, or these have too few rows.
    """
    count, width = rows.shape
    if count % size or size <= width:
        raise UserError(
            f"--method.whitening {size} with {count} images and embeddings of {width} dimensions: it must divide "
            "--batch-size and be larger than the last width of --method.projector, better twice as large"
        )
    parts = rows[order].view(-1, size, width)
    parts = parts - parts.mean(1, keepdim=True)
    covariance = parts.mT @ parts / (size - 1)  # (N / m, D, D)
    if shrinkage:
        identity = torch.eye(width, dtype=rows.dtype, device=rows.device)
        covariance = (1 - shrinkage) * covariance + shrinkage * identity
    lower = torch.linalg.cholesky_ex(covariance).L
    white = torch.linalg.solve_triangular(lower, parts.mT, upper=False).mT
    return white.reshape(count, width)[order.argsort()]


_CIFAR: dict[str, Any] = {
    "epochs": 1000,
    "images": 50_000,
    "image_size": 32,
    "backbone": {"name": "resnet18", "stem": "small"},
    "rate": 3e-3,
}
_LARGER: dict[str, Any] = {
    "epochs": 1000,
    "images": 100_000,
    "image_size": 64,
    "backbone": {"name": "resnet18", "stem": "pooled"},
    "rate": 2e-3,
    "method": {"projector": (1024, 128), "whitening": 256},
}
_RELEASED: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    "cifar10": ("CIFAR-10", {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}, _CIFAR),
    "cifar100": ("CIFAR-100", {"mean": (0.5071, 0.4867, 0.4408), "std": (0.2675, 0.2565, 0.2761)}, _CIFAR),
    "stl10": (
        "STL-10's unlabelled and labelled training images", {"mean": (0.43, 0.42, 0.39), "std": (0.27, 0.26, 0.27)},
        _LARGER | {"epochs": 2000, "images": 105_000},
    ),
    "tiny_imagenet": ("Tiny ImageNet", {"mean": (0.48, 0.448, 0.398), "std": (0.277, 0.269, 0.282)}, _LARGER),
}  # fmt: skip
"""by name of the recipes: the data, the statistics of its pixels, and what its runs share"""
_STRONG = PhotoViews(
    scale=(0.2, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.0, solarize=0.0
)  # fmt: skip


def _official(name: str, views: int) -> Recipe:
    """Return the released settings, whose rate is not scaled by the batch, and whose warm-up takes 500 steps."""
    data, colour, shared = _RELEASED[name]
    changes: dict[str, Any] = {"scale": (0.2, 1.0), "gray": 0.1, "blur": 0.0, "global_count": views}
    values = dict(shared)
    rate, epochs, images = values.pop("rate"), values["epochs"], values["images"]
    batch_size = {2: 512, 4: 256}[views]
    if views == 2 and shared["image_size"] == 64:
        values["method"] = {**values["method"], "iterations": 4}
    return Recipe(
        source=f"README of htdt/self-supervised, W-MSE-{views} on {data} (arXiv 2007.06346); its views have "
        "the colours first, gemel's the crop",
        views=changed("solo_cifar_symmetric_weak", **changes, **colour),
        batch_size=batch_size,
        optimizer=AdamOptimizer(
            lr=rate * 256 / batch_size, weight_decay=1e-6, warmup_epochs=500 * batch_size / images,
            warmup_start=1 / 500, warmup_inclusive=True, milestones=(1 - 50 / epochs, 1 - 25 / epochs), factor=0.2,
        ),
        **values | {"backbone": values["backbone"] | {"zero_init": False}},
    )  # fmt: skip


_SOLO = solo(
    "wmse", (88.67, 61.33, 67.60), warmed(AdamOptimizer(lr=2e-3, weight_decay=1e-6), 0.0), views=_STRONG, method={},
    note="its loss takes no gradient through the second of two views",
    imagenet100={
        "views": _STRONG.model_copy(update={"blur": 0.2, "local_count": 6, "local_scale": (0.2, 1.0),
                                            "local_blur": 0.2, "local_size": 96}),
        "batch_size": 128,
    },
)  # fmt: skip

RECIPES: Mapping[str, Recipe] = {
    "imagenet100": _SOLO["imagenet100"],  # first: of the largest images
    **{f"{name}_{views}": _official(name, views) for name in _RELEASED for views in (2, 4)},
    **_SOLO,
    "small": small({"projector": (512, 32), "whitening": None}),
}


class WMse(Method):
    r"""Make whitened embeddings of an image's views equal (https://arxiv.org/abs/2007.06346).

    L = mean over pairs of views of 2 - 2 cos(w_i, w_j),   w = L⁻¹ (h - μ),   L Lᵀ the covariance of h

    Any number of views, W-MSE-2 and W-MSE-4 in the paper (--views.global_count). Backbones see each view by itself, the
    projector all together. All parameters decay.

    Args:
        projector: widths of the projector's layers
        whitening: images of a sub-batch; none: the batch; twice the projector's last width or more
        iterations: divisions into sub-batches that a loss is the mean over
        shrinkage: share of the identity in the covariance
        measure: cosine; squares: squared differences of what is not divided by its length
    """

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    title = "W-MSE"
    terms: ClassVar[Mapping[str, str]] = {
        "similarity": "mean cosine of an image's whitened views; rises to 1 as they agree",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "loss_not_finite": "take larger batches, or raise --method.shrinkage: a covariance had no full rank",
        "views_disagree": "train longer, or raise --method.whitening and the batch size",
    }
    small: ClassVar[Mapping[str, Any]] = {"projector": (16, 2), "whitening": None}

    def __init__(
        self,
        backbone: Any,
        *,
        projector: Widths = (1024, 64),
        whitening: Count | None = 128,
        iterations: Annotated[int, Field(ge=1, le=100)] = 1,
        shrinkage: Share = 0.0,
        measure: Measure = "cosine",
    ) -> None:
        super().__init__(backbone)
        self.whitening, self.iterations, self.shrinkage = whitening, iterations, shrinkage
        self.measure: Measure = measure
        self.projector = mlp(backbone.width, *projector)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its terms."""
        features = torch.cat([self.backbone(view) for view in batch.views])
        views = self.projector(features).chunk(len(batch.views))
        count = len(views[0]) * world_size()
        drawn = from_first(torch.rand(self.iterations, count, device=features.device))
        return w_mse_loss(views, drawn.argsort(1), size=self.whitening, shrinkage=self.shrinkage, measure=self.measure)

    def embed(self, features: Tensor) -> Tensor:
        """Return the projector's output, (B, D)."""
        return self.projector(features)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Return True: biases and norms decay, too."""
        return True
