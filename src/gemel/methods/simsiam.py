"""SimSiam: predict the other view's projection by the same network, which takes no gradient there."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gemel.data.plan import Batch
from gemel.distributed import mean_over_processes
from gemel.methods.base import Group, Method, apart
from gemel.methods.parts.contrast import check_pairs, mean_cosine
from gemel.methods.parts.heads import mlp, view_by_view
from gemel.methods.parts.recipes import ZERO_INIT, imagenet, small, solo, warmed
from gemel.settings.recipes import AdamWOptimizer, Count, PhotoViews, Recipe, SgdOptimizer, Widths


def simsiam_loss(
    prediction_one: Tensor, prediction_two: Tensor, projection_one: Tensor, projection_two: Tensor
) -> dict[str, Tensor]:
    r"""Return L = -½ [cos(p₁, z₂) + cos(p₂, z₁)], means over the global batch, -1..1; z takes no gradient.

    Source: arXiv 2011.10566, equations 1 to 4.

    Args:
        prediction_one: raw predictions from the first views, (n, D), this process's rows.
        prediction_two: raw predictions from the second views, (n, D).
        projection_one: raw projections of the first views, (n, D).
        projection_two: raw projections of the second views, (n, D).

    Returns:
        loss, first = cos(p₁, z₂) and second = cos(p₂, z₁).

    Raises:
        ValueError: the shapes differ or are not (n, D).
    """
    check_pairs(prediction_one, prediction_two, projection_one, projection_two)
    pairs = (prediction_one, projection_two), (prediction_two, projection_one)
    first, second = mean_over_processes(torch.stack([mean_cosine(*pair, floor=1e-8) for pair in pairs]))
    return {"loss": -(first + second) / 2, "first": first, "second": second}


def _official(epochs: int, top1: float, batch_size: int) -> Recipe:
    return imagenet(
        f"arXiv 2011.10566 and its released code: linear top-1 {top1} on ImageNet",
        SgdOptimizer(lr=0.05, weight_decay=1e-4, warmup_epochs=0, final=0.0, rate_by="epoch"),
        epochs=epochs, batch_size=batch_size, views="moco_v2", backbone=ZERO_INIT,
    )  # fmt: skip


RECIPES: Mapping[str, Recipe] = {
    "resnet50": _official(100, 68.1, 512),
    "resnet50_batch256": _official(100, 68.3, 256),
    "resnet50_800ep": _official(800, 71.3, 256),
    **solo(
        "simsiam", (90.51, 66.04, 74.54), warmed(SgdOptimizer(lr=0.5, weight_decay=1e-5)),
        views="solo_cifar_symmetric_weak", method={}, imagenet100={"views": PhotoViews()},
    ),
    "small": small(
        {"projector": (512, 512, 512), "predictor": 128}, optimizer=AdamWOptimizer(lr=1e-3, weight_decay=1e-4)
    ),
}  # fmt: skip


class SimSiam(Method):
    r"""Predict the other view's projection by the same network (https://arxiv.org/abs/2011.10566).

    L = -½ [cos(p₁, z₂) + cos(p₂, z₁)],   no gradient through z

    All parameters decay; the bias of the projector's last layer, whose norm cancels it, keeps its random start.

    Args:
        projector: widths of the projector's layers
        predictor: hidden width of the predictor, a bottleneck
        constant_rate: the predictor's learning rate neither rises nor falls
    """

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    title = "SimSiam"
    terms: ClassVar[Mapping[str, str]] = {
        "first": "cosine of the first view's prediction and the second's projection; rises to 1 as they agree",
        "second": "the same from the second view to the first",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "same_embeddings": "lower the learning rate, keep --method.constant_rate, or narrow --method.predictor",
        "embeddings_on_a_line": "lower the learning rate, keep --method.constant_rate, or narrow --method.predictor",
    }
    small: ClassVar[Mapping[str, Any]] = {"projector": (16, 8), "predictor": 4}

    def __init__(
        self,
        backbone: Any,
        *,
        projector: Widths = (2048, 2048, 2048),
        predictor: Count = 512,
        constant_rate: bool = True,
    ) -> None:
        super().__init__(backbone)
        self.constant_rate = constant_rate
        self.projector = mlp(backbone.width, *projector, bias=False, last_bias=True, last_norm="plain")
        self.projector[-2].bias.requires_grad_(False)
        self.predictor = mlp(projector[-1], predictor, projector[-1], bias=False, last_bias=True)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its two directions; batch norms see each view by itself."""
        projections = view_by_view(self.projector, [self.backbone(view) for view in self.pair(batch)])
        return simsiam_loss(*view_by_view(self.predictor, projections), *projections)

    def embed(self, features: Tensor) -> Tensor:
        """Return the projector's output, (B, D)."""
        return self.projector(features)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Return True: biases and norms decay, too."""
        return True

    def parameter_groups(self) -> list[Group]:
        """Return the predictor apart, for its constant rate."""
        schedule = "constant" if self.constant_rate else "recipe"
        return apart(super().parameter_groups(), self.predictor.parameters(), schedule=schedule)
