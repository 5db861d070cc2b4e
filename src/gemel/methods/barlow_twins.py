"""Barlow Twins: make the cross-correlation of twin embeddings the identity."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from gemel.data.plan import Batch
from gemel.methods.base import Method
from gemel.methods.parts.barlow_loss import (
    FeatureScale,
    Normalisation,
    RedundancyOf,
    Terms,
    Variant,
    barlow_twins_loss,
)
from gemel.methods.parts.barlow_recipes import RECIPES
from gemel.methods.parts.heads import Norm, mlp, view_by_view
from gemel.settings.recipes import Recipe, Widths

__all__ = ["BarlowTwins", "barlow_twins_loss"]


class BarlowTwins(Method):
    r"""Make the cross-correlation of twin embeddings the identity (https://arxiv.org/abs/2103.03230).

    L = Σ_i (1 - C_ii)² + λ Σ_i Σ_{j≠i} C_ij²,   C = Z₁ᵀ Z₂ / n,   Z standardised over the batch

    The backbone's features are used afterwards, not the embeddings. Options from `projector_norm` on are the paper's
    ablations (Tables 5 and 6).

    Args:
        lambda_param: λ, the weight of the redundancy term
        projector: widths of the projector's layers
        loss_scale: the loss is multiplied by this; moves biases and norms under LARS, everything under SGD
        match_official_gradient: divide the gradient by the number of processes, as the released code does
        projector_norm: norm of the projector's hidden layers
        predictor: hidden width of a predictor on the first view; 0: none; the paper's has 8192
        stop_gradient: the second view takes no gradient
        terms: the loss's terms; one alone collapses or keeps redundancy
        normalisation: batch: standardised columns; features: then rows of length 1; centre: covariance
        feature_scale: factor of C under features; width: D, mean: 1, sum: the batch size
        redundancy_of: cross: between the views; auto: within each view
        temperature: of the cross-entropy form; none: squares
    """

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    title = "Barlow Twins"
    terms: ClassVar[Mapping[str, str]] = {
        "invariance": "how far the diagonal of the correlation is from 1; falls as an image's views agree",
        "redundancy": "squares off the diagonal; falls as the dimensions stop repeating each other",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "low_rank": "train longer, or raise --method.lambda_param (the weight of the redundancy)",
        "embeddings_on_a_line": "raise --method.lambda_param (the weight of the redundancy) or lower the learning rate",
    }
    protocols: ClassVar[Mapping[str, str]] = {"finetune": "twist"}
    small: ClassVar[Mapping[str, Any]] = {"projector": (16, 16)}

    def __init__(
        self,
        backbone: Any,
        *,
        lambda_param: PositiveFloat = 0.0051,
        projector: Widths = (8192, 8192, 8192),
        loss_scale: PositiveFloat = 1.0,
        match_official_gradient: bool = False,
        projector_norm: Norm = "batch",
        predictor: NonNegativeInt = 0,
        stop_gradient: bool = False,
        terms: Terms = "both",
        normalisation: Normalisation = "batch",
        feature_scale: FeatureScale = "width",
        redundancy_of: RedundancyOf = "cross",
        temperature: PositiveFloat | None = None,
    ) -> None:
        super().__init__(backbone)
        self.lambda_param = lambda_param
        self.loss_scale = loss_scale
        self.match_official_gradient = match_official_gradient
        self.variant = Variant(terms, normalisation, feature_scale, redundancy_of, temperature)
        self.projector = mlp(backbone.width, *projector, bias=False, norm=projector_norm)
        width = projector[-1]
        self.predictor = mlp(width, predictor, width) if predictor else nn.Identity()
        self.stop_gradient = stop_gradient

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its two terms; batch norms see each view by itself."""
        features = [self.backbone(view) for view in self.pair(batch)]
        if self.stop_gradient:
            features[1] = features[1].detach()  # skips a backward pass of zeros through the backbone
        one, two = view_by_view(self.projector, features)
        terms = barlow_twins_loss(
            self.predictor(one),
            two.detach() if self.stop_gradient else two,
            lambda_param=self.lambda_param,
            match_official_gradient=self.match_official_gradient,
            variant=self.variant,
        )
        return terms | {"loss": self.loss_scale * terms["loss"]}

    def embed(self, features: Tensor) -> Tensor:
        """Return the projector's output, (B, D)."""
        return self.projector(features)
