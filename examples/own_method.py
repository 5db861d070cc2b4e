"""A method of your own in one file, trained by gemel without changing it.

gemel pretrain digits --method examples/own_method.py
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

from gemel.data.plan import Batch
from gemel.methods.base import Method
from gemel.methods.parts.heads import mlp
from gemel.settings.recipes import AdamWOptimizer, GlyphViews, Recipe


class AlignAndSpread(Method):
    """Alignment and uniformity on the sphere (arXiv 2005.10242): L = E|a - b|² + weight · log E exp(-2 |a - a'|²).

    Args:
        width: of the embedding
        weight: of the uniformity
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "small": Recipe(
            source="an example, not tuned",
            views=GlyphViews(),
            backbone={"name": "convnet"},
            image_size=16,
            epochs=5,
            batch_size=128,
            images=1797,
            optimizer=AdamWOptimizer(lr=2e-3, weight_decay=1e-4),
        ),
    }

    def __init__(self, backbone: Any, *, width: PositiveInt = 64, weight: PositiveFloat = 1.0) -> None:
        super().__init__(backbone)
        self.weight = weight
        self.projector = mlp(backbone.width, 128, width)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        one, two = (normalize(self.projector(self.backbone(view))) for view in batch.views)
        alignment = (one - two).square().sum(1).mean()
        squares = (2 - 2 * one @ one.T).flatten()[1:].view(len(one) - 1, len(one) + 1)[:, :-1]  # all but the diagonal
        uniformity = (-2 * squares).exp().mean().log()
        return {"loss": alignment + self.weight * uniformity, "alignment": alignment, "uniformity": uniformity}
