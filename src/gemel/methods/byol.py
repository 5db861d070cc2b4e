"""BYOL: predict a moving average's projection of the other view."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from gemel.data.plan import Batch
from gemel.distributed import mean_over_processes
from gemel.methods.base import Embed, Method
from gemel.methods.parts.contrast import check_pairs, mean_cosine
from gemel.methods.parts.heads import mlp, view_by_view
from gemel.methods.parts.recipes import imagenet, small, solo, solo_lars
from gemel.methods.parts.teacher import Teacher
from gemel.schedules import cosine
from gemel.settings.recipes import LarsOptimizer, PhotoViews, Probability, Recipe, Widths

FLOOR = 1e-6
"""least length that rows are divided by, as in the released code"""


def byol_loss(
    prediction_one: Tensor, prediction_two: Tensor, target_one: Tensor, target_two: Tensor
) -> dict[str, Tensor]:
    r"""Return L = 1/N Σ_i |p̂₁ - t̂₂|² + |p̂₂ - t̂₁|², which is 4 - 2 cos(p₁, t₂) - 2 cos(p₂, t₁), 0..8.

    Source: arXiv 2006.07733, equation 2, with the directions summed as in the released code, not averaged. A row of
    zeros has the cosine 0.

    Args:
        prediction_one: raw predictions from the first views, (n, D), this process's rows.
        prediction_two: raw predictions from the second views, (n, D).
        target_one: raw projections of the first views by the average, (n, D); they take no gradient.
        target_two: the same of the second views.

    Returns:
        loss, first (the first view predicts the second) and second, means over the global batch.

    Raises:
        ValueError: the shapes differ or are not (n, D).
    """
    check_pairs(prediction_one, prediction_two, target_one, target_two)
    pairs = (prediction_one, target_two), (prediction_two, target_one)
    cosines = torch.stack([mean_cosine(*pair, floor=FLOOR) for pair in pairs])
    first, second = 2 - 2 * mean_over_processes(cosines)
    return {"loss": first + second, "first": first, "second": second}


def _official(
    source: str, epochs: int, lr: float, momentum: float, *, decay: float = 1e-6, batch_size: int = 4096, **other: Any
) -> Recipe:
    optimizer = LarsOptimizer(lr=lr, weight_decay=decay, final=0.0)
    return imagenet(
        f"arXiv 2006.07733 and its released code: {source}", optimizer, epochs=epochs, batch_size=batch_size,
        backbone={"zero_init": True, "name": "resnet50", **other}, method={"momentum": momentum},
    )  # fmt: skip


RECIPES: Mapping[str, Recipe] = {
    "resnet50": _official("linear top-1 74.3 on ImageNet", 1000, 0.2, 0.996, decay=1.5e-6),
    "resnet50_300ep": _official("linear top-1 72.5 on ImageNet", 300, 0.3, 0.99),
    "resnet50_100ep": _official("its preset of 100 epochs; no result is printed", 100, 0.45, 0.99),
    "resnet50_batch512": _official(
        "the preset of smaller batches: linear top-1 73.7 on ImageNet", 1000, 0.4, 0.9995, decay=1.5e-6, batch_size=512
    ),
    "resnet50w2": _official(
        "every channel doubled (94 M): linear top-1 77.4 on ImageNet", 1000, 0.2, 0.996, decay=1.5e-6, name="resnet50w2"
    ),
    **solo(
        "byol", (92.58, 70.46, 80.16), solo_lars(1.0, 1e-5), views="solo_cifar_asymmetric",
        method={"momentum": 0.99}, note="its last linear layers have biases",
        imagenet100={
            "views": PhotoViews(), "optimizer": solo_lars(0.5, 1e-6), "method": {"momentum": 0.99, "predictor": (8192,)}
        },
    ),
    "small": small({"projector": (512, 128), "predictor": (512,), "momentum": 0.99}),
}  # fmt: skip


class Byol(Method):
    r"""Predict a moving average's projection of the other view (https://arxiv.org/abs/2006.07733).

    L = 1/N Σ_i |p̂₁ - t̂₂|² + |p̂₂ - t̂₁|²

    The average begins as a copy of backbone and projector (the released code draws its own start, which is forgotten
    after some hundred steps), and follows the new weights after each step. The network that is trained is kept.

    Args:
        projector: widths of the projector's layers
        predictor: widths of the predictor's hidden layers; its last is as wide as the projector's
        momentum: of the average at the beginning; half a cosine leads to 1
    """

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    title = "BYOL"
    terms: ClassVar[Mapping[str, str]] = {
        "first": "squared distance of the first view's prediction from the second's target, 0..4; 0 where they agree",
        "second": "the same from the second view to the first",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "same_embeddings": "raise --method.momentum, lower the learning rate, or take larger batches",
        "embeddings_on_a_line": "raise --method.momentum, lower the learning rate, or take larger batches",
    }
    small: ClassVar[Mapping[str, Any]] = {"projector": (16, 8), "predictor": (16,)}

    def __init__(
        self,
        backbone: Any,
        *,
        projector: Widths = (4096, 256),
        predictor: Widths = (4096,),
        momentum: Probability = 0.996,
    ) -> None:
        super().__init__(backbone)
        self.momentum = momentum
        self.projector = mlp(backbone.width, *projector, last_bias=False)
        self.predictor = mlp(projector[-1], *predictor, projector[-1], last_bias=False)
        self.teacher = Teacher(backbone, self.projector)

    def before_stage(self, name: str, embed: Embed) -> None:
        """Let the average begin as the network."""
        self.teacher.copy(self.backbone, self.projector)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its two directions; batch norms see each view by itself."""
        views = self.pair(batch)
        projections = view_by_view(self.projector, [self.backbone(view) for view in views])
        predictions = view_by_view(self.predictor, projections)
        with torch.no_grad():
            backbone, projector = self.teacher.networks
            targets = view_by_view(projector, [backbone(view) for view in views])
        return byol_loss(*predictions, *targets)

    def after_step(self, progress: float) -> None:
        """Let the average follow."""
        self.teacher.follow(self.backbone, self.projector, momentum=cosine(progress, self.momentum, 1.0))

    def embed(self, features: Tensor) -> Tensor:
        """Return the projector's output, (B, D)."""
        return self.projector(features)
