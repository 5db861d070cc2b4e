"""IMAX: as much Gaussian information as possible between the embeddings of an image's views."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from gemel.data.plan import Batch
from gemel.distributed import mean_over_processes, world_size
from gemel.errors import UserError
from gemel.methods.base import Method
from gemel.methods.parts.cross_correlation import check_pair
from gemel.methods.parts.heads import mlp, view_by_view
from gemel.methods.parts.precision import exact_products
from gemel.methods.parts.recipes import small
from gemel.methods.parts.standardise import centre
from gemel.settings.recipes import Recipe, Widths


def imax_loss(one: Tensor, two: Tensor, *, ridge: float = 0.0) -> dict[str, Tensor]:
    r"""Return L = log|Cov(Z₁ - Z₂) + δI| - log|Cov(Z₁ + Z₂) + δI|, covariances unbiased, over the global batch.

    -L/2 is the information between signal and its two noisy versions where all are Gaussian; for one dimension
    ½ log [V(a + b) / V(a - b)]. With δ = 0 it does not change under an invertible linear map of both views, and falls
    without bound as they become equal. Source: Becker and Hinton, Nature 355, 1992; the form of arXiv 2103.03230,
    section 5.

    Args:
        one: raw embeddings of the first views, (n, D), this process's rows; the global batch has more than D.
        two: raw embeddings of the second views, (n, D).
        ridge: δ, added to the diagonal of both covariances.

    Returns:
        loss = difference - sum; the two log-determinants, in float32 or wider. Either may be negative.

    Raises:
        ValueError: the shapes differ or are not (n, D).
    """
    check_pair(one, two)
    with exact_products(one.device):
        one, two = centre(one), centre(two)
        difference, total = (_log_determinant(rows, ridge) for rows in (one - two, one + two))
    return {"loss": difference - total, "difference": difference, "sum": total}


def _log_determinant(rows: Tensor, ridge: float) -> Tensor:
    count = len(rows) * world_size()
    covariance = mean_over_processes(rows.T @ rows / len(rows)) * (count / (count - 1))  # (D, D)
    return torch.linalg.slogdet(covariance + ridge * torch.eye(len(covariance)).to(covariance)).logabsdet


class Imax(Method):
    r"""Maximise the Gaussian information between an image's views (Becker and Hinton, Nature 355, 1992).

    L = log|Cov(Z₁ - Z₂) + δI| - log|Cov(Z₁ + Z₂) + δI|

    Barlow Twins' paper reports that its attempts with it on ImageNet failed (section 5). The batch must have more rows
    than the embedding dimensions, better twice as many.

    Args:
        projector: widths of the projector's layers; the last is D
        ridge: δ, on the diagonal of both covariances; 0: as the equation, without bound
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "small": small(
            {"projector": (256, 256, 32)},
            source="gemel's settings for small data: those of Barlow Twins with a small projector; none are published",
        )
    }
    title = "IMAX"
    terms: ClassVar[Mapping[str, str]] = {
        "difference": "log-determinant of the views' difference; falls as an image's views agree",
        "sum": "log-determinant of their sum; rises as the embeddings of images spread in all dimensions",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "low_rank": "raise --method.ridge, take larger batches or a narrower --method.projector",
    }
    protocols: ClassVar[Mapping[str, str]] = {"finetune": "twist"}
    small: ClassVar[Mapping[str, Any]] = {"projector": (16, 4)}

    def __init__(
        self,
        backbone: Any,
        *,
        projector: Widths = (256, 256, 64),
        ridge: NonNegativeFloat = 1e-3,
    ) -> None:
        super().__init__(backbone)
        self.projector = mlp(backbone.width, *projector, bias=False)
        self.width, self.ridge = projector[-1], ridge

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its two terms; batch norms see each view by itself.

        Raises:
            UserError: the batch has no more rows than the embedding dimensions.
        """
        one, two = view_by_view(self.projector, [self.backbone(view) for view in self.pair(batch)])
        rows = len(one) * world_size()
        if rows <= self.width:
            raise UserError(
                f"a batch of {rows} images for embeddings of {self.width} dimensions: their covariance has no "
                f"determinant; raise --batch-size above {self.width}, or narrow the last of --method.projector"
            )
        return imax_loss(one, two, ridge=self.ridge)

    def embed(self, features: Tensor) -> Tensor:
        """Return the projector's output, (B, D)."""
        return self.projector(features)
