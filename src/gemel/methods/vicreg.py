"""VICReg: equal views, columns that vary, columns that do not repeat each other."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from gemel.data.plan import Batch
from gemel.distributed import mean_over_processes, world_size
from gemel.methods.base import Method
from gemel.methods.parts.cross_correlation import check_pair, correlation_terms
from gemel.methods.parts.heads import mlp, view_by_view
from gemel.methods.parts.precision import exact_products, widened
from gemel.methods.parts.recipes import ZERO_INIT, imagenet, small, solo, solo_lars
from gemel.methods.parts.standardise import centre
from gemel.settings.recipes import LarsOptimizer, PhotoViews, Recipe, Widths

EPSILON = 1e-4
"""added to the variance, inside the root"""


def vicreg_loss(
    one: Tensor,
    two: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    nominal_batch: int | None = None,
) -> dict[str, Tensor]:
    r"""Return L = λ s + μ v + ν c.

    s = 1/(N D) Σ |z₁ - z₂|²; v = ½ Σ_k 1/D Σ_j max(0, 1 - √(Var(z_k,j) + 1e-4)), of the two views k, Var unbiased;
    c = Σ_k 1/D Σ_{i≠j} C(z_k)_ij², C = Zᵀ Z / (N - 1) with centred columns, by N x N matrices where that is cheaper.
    Source: the released code of arXiv 2105.04906, whose ½ is on v alone.

    Args:
        one: raw embeddings of the first views, (n, D), this process's rows.
        two: raw embeddings of the second views, (n, D).
        invariance: λ.
        variance: μ.
        covariance: ν.
        nominal_batch: stands for N in the divisor of C, as in the released code's last, smaller batch; None: N.

    Returns:
        loss, and the unweighted terms invariance s, variance v and covariance c.

    Raises:
        ValueError: the shapes differ or are not (n, D), or fewer than two rows in all.
    """
    check_pair(one, two)
    count = len(one) * world_size()
    if count < 2:
        raise ValueError("a variance needs two rows or more")
    with exact_products(one.device):
        one, two = widened(one), widened(two)
        s = mean_over_processes((one - two).square().mean())
        found = [_spread(view, count, (nominal_batch or count) - 1) for view in (one, two)]
    v, c = (found[0][0] + found[1][0]) / 2, found[0][1] + found[1][1]
    loss = invariance * s + variance * v + covariance * c
    return {"loss": loss, "invariance": s, "variance": v, "covariance": c}


def _spread(rows: Tensor, count: int, divisor: int) -> tuple[Tensor, Tensor]:
    """Return the hinge of the columns' deviations, and the squares of the covariances, both divided by D."""
    centred = centre(rows)
    deviations = (mean_over_processes(centred.square().mean(0)) * (count / (count - 1)) + EPSILON).sqrt()
    squares = correlation_terms(centred, None, standardised=False)["redundancy"]
    return torch.relu(1 - deviations).mean(), squares * ((count / divisor) ** 2 / rows.shape[1])


def _official(source: str, epochs: int, batch_size: int, lr: float) -> Recipe:
    optimizer = LarsOptimizer(lr=lr, weight_decay=1e-6)
    return imagenet(source, optimizer, epochs=epochs, batch_size=batch_size, backbone=ZERO_INIT)


_SOLO = PhotoViews(scale=(0.2, 1.0), blur=0.0, solarize=0.1)
_HALVED = {"projector": (2048, 2048, 2048), "variance": 50.0}

RECIPES: Mapping[str, Recipe] = {
    "resnet50": _official("arXiv 2105.04906: linear top-1 73.2 on ImageNet", 1000, 2048, 0.2),
    "resnet50_100ep": _official("README of the released code; no result is printed", 100, 512, 0.3),
    **solo(
        "vicreg", (92.07, 68.54, 79.22), solo_lars(0.3, 1e-4), views=_SOLO, method=_HALVED,
        note="its variance term lacks the ½, so that its weight of 25 is 50 here",
        imagenet100={"views": _SOLO.model_copy(update={"blur": 0.5})},
    ),
    "small": small({"projector": (512, 512, 512)}),
}  # fmt: skip


class VicReg(Method):
    r"""Make an image's views equal, and columns vary and not repeat each other (https://arxiv.org/abs/2105.04906).

    L = λ s + μ v + ν c:   s = mean |z₁ - z₂|²,   v = mean max(0, 1 - σ_j),   c = 1/D Σ_{i≠j} C_ij²

    Args:
        invariance: λ, weight of the views' distance
        variance: μ, weight of the columns' lack of deviation
        covariance: ν, weight of the columns' covariances
        projector: widths of the expander's layers
    """

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    title = "VICReg"
    terms: ClassVar[Mapping[str, str]] = {
        "invariance": "mean squared distance of an image's views; 0 where they are equal",
        "variance": "how far columns' standard deviations are below 1; at most 1, 0 where all reach it",
        "covariance": "squares of the covariances between columns; falls as they stop repeating each other",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "same_embeddings": "raise --method.variance (the weight of the deviations), or lower the learning rate",
        "low_rank": "raise --method.covariance (the weight of the covariances), or train longer",
        "embeddings_on_a_line": "raise --method.covariance (the weight of the covariances)",
    }
    small: ClassVar[Mapping[str, Any]] = {"projector": (16, 8)}

    def __init__(
        self,
        backbone: Any,
        *,
        invariance: NonNegativeFloat = 25.0,
        variance: NonNegativeFloat = 25.0,
        covariance: NonNegativeFloat = 1.0,
        projector: Widths = (8192, 8192, 8192),
    ) -> None:
        super().__init__(backbone)
        self.weights: dict[str, Any] = {"invariance": invariance, "variance": variance, "covariance": covariance}
        self.projector = mlp(backbone.width, *projector, last_bias=False)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its three terms; batch norms see each view by itself."""
        one, two = view_by_view(self.projector, [self.backbone(view) for view in self.pair(batch)])
        return vicreg_loss(one, two, **self.weights)

    def embed(self, features: Tensor) -> Tensor:
        """Return the expander's output, (B, D)."""
        return self.projector(features)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Return whether a parameter decays: those of more than one dimension, a transformer's tokens too."""
        return parameter.ndim > 1
