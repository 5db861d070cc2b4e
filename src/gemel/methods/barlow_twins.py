"""Barlow Twins: the cross-correlation of twin embeddings made the identity."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from gemel.data.batches import Batch
from gemel.distributed import gather, mean_over_processes, world_size
from gemel.methods.base import Method
from gemel.methods.parts.heads import mlp
from gemel.recipes import AdamWOptimizer, Count, LarsOptimizer, PhotoViews, Recipe

EPSILON = 1e-5
"""added to the variance, as batch norm does in the released code"""


def barlow_twins_loss(
    one: Tensor, two: Tensor, *, lambda_param: float = 0.0051, form: Literal["auto", "correlation", "gram"] = "auto"
) -> dict[str, Tensor]:
    r"""L = Σ_i (1 - C_ii)² + λ Σ_i Σ_{j≠i} C_ij², C = Z₁ᵀ Z₂ / n, Z standardised over the global batch.

    The variance is the biased one plus 1e-5. Source: arXiv 2103.03230, equation 1, and its released code (sums, not
    means; a retelling that drops the square of the first term is wrong).

    Args:
        one: raw embeddings of the first views, (n, D), this process's rows.
        two: raw embeddings of the second views, (n, D).
        lambda_param: λ, weight of the redundancy term.
        form: correlation: by the D x D matrix; gram: by the n x n matrices, Σ_ij C_ij² = <Z₁Z₁ᵀ, Z₂Z₂ᵀ> / n², the
            same number for less where n < D; auto: the cheaper.

    Returns:
        loss, invariance Σ_i (1 - C_ii)² and redundancy Σ_i Σ_{j≠i} C_ij², scalars in float32 or wider.

    Raises:
        ValueError: the shapes differ, are not (n, D), or the form is unknown.
    """
    if one.shape != two.shape or one.ndim != 2:
        raise ValueError(f"two matrices (n, D) of one shape are needed, not {tuple(one.shape)} and {tuple(two.shape)}")
    if form not in ("auto", "correlation", "gram"):
        raise ValueError(f"form must be auto, correlation or gram, not {form!r}")
    with torch.autocast(one.device.type, enabled=False):
        first, second = _standardise(one), _standardise(two)
        n, width = len(first), first.shape[1]
        diagonal = mean_over_processes((first * second).mean(0))  # (D,)
        if form == "gram" or (form == "auto" and n * world_size() < width):
            all_first, all_second = gather(first), gather(second)
            total = ((all_first @ all_first.T) * (all_second @ all_second.T)).sum() / len(all_first) ** 2
            redundancy = total - diagonal.square().sum()
        else:
            correlation = mean_over_processes(first.T @ second / n)  # (D, D)
            redundancy = correlation.square().sum() - correlation.diagonal().square().sum()
        invariance = (1 - diagonal).square().sum()
        return {
            "loss": invariance + lambda_param * redundancy,
            "invariance": invariance,
            "redundancy": redundancy,
        }


def _standardise(embeddings: Tensor) -> Tensor:
    """(z - μ) / √(σ² + 1e-5) by column over the global batch; float32, or float64 where given."""
    rows = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    mean = mean_over_processes(rows.mean(0))
    centred = rows - mean
    variance = mean_over_processes(centred.square().mean(0))
    return centred * (variance + EPSILON).rsqrt()


class BarlowTwins(Method):
    r"""Make the cross-correlation of twin embeddings the identity (https://arxiv.org/abs/2103.03230).

    L = Σ_i (1 - C_ii)² + λ Σ_i Σ_{j≠i} C_ij²,   C = Z₁ᵀ Z₂ / n,   Z standardised over the batch

    The features of the backbone are what is used afterwards, not the embedding.

    Args:
        lambda_param: λ, the weight of the redundancy term
        projector: widths of the projector's layers
        loss_scale: the loss is multiplied by this; moves biases and norms under LARS, everything under SGD
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "resnet50": Recipe(
            source="released code of arXiv 2103.03230: linear top-1 73.5 on ImageNet (paper 73.2)",
            views=PhotoViews(),
            backbone={"name": "resnet50"},
            image_size=224,
            epochs=1000,
            batch_size=2048,
            optimizer=LarsOptimizer(lr=0.2, bias_lr=0.0048, weight_decay=1e-6, flavour="L1"),
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

    def __init__(
        self,
        backbone: Any,
        *,
        lambda_param: PositiveFloat = 0.0051,
        projector: Annotated[tuple[Count, ...], Field(min_length=1, max_length=100)] = (8192, 8192, 8192),
        loss_scale: PositiveFloat = 1.0,
    ) -> None:
        super().__init__(backbone)
        self.lambda_param = lambda_param
        self.loss_scale = loss_scale
        self.projector = mlp(backbone.width, *projector, bias=False)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """One pass a view: batch norm sees each view by itself."""
        one, two = (self.projector(self.backbone(view)) for view in batch.views)
        terms = barlow_twins_loss(one, two, lambda_param=self.lambda_param)
        return terms | {"loss": self.loss_scale * terms["loss"]}

    def embed(self, features: Tensor) -> Tensor:
        """The projector's output, (B, D)."""
        return self.projector(features)
