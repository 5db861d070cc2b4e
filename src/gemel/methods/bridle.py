"""Bridle, Heading and MacKay: classes that are certain of each image and fair over all of them."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gemel.backbones.base import features_of
from gemel.data.plan import Batch
from gemel.methods.base import Method
from gemel.methods.parts.best_head import note_losses, of_best
from gemel.methods.parts.class_head import ClassHead
from gemel.methods.parts.information import entropies
from gemel.methods.parts.recipes import small
from gemel.settings.recipes import AdamWOptimizer, AtLeastTwo, Count, HeadCount, PhotoViews, Recipe


def bridle_loss(logits: Tensor) -> dict[str, Tensor]:
    r"""Return L = -I = 1/n Σ_i H(p_i) - H(p̄), p = softmax(logits), p̄ the mean over the global batch.

    0 <= I <= min(log C, log n). The gradient of I is p_ic/n [log(p_ic/p̄_c) - Σ_k p_ik log(p_ik/p̄_k)]. Source:
    "Unsupervised classifiers, mutual information and 'phantom targets'", NIPS 1991.

    Args:
        logits: (n, C), this process's rows.

    Returns:
        loss = conditional - marginal; conditional, the mean entropy of a row; marginal, the entropy of the mean.

    Raises:
        ValueError: the logits are not (n, C).
    """
    if logits.ndim != 2:
        raise ValueError(f"logits (n, C) are needed, not {tuple(logits.shape)}")
    conditional, marginal = entropies(logits)
    return {"loss": conditional - marginal, "conditional": conditional, "marginal": marginal}


class Bridle(Method):
    r"""Find classes that are certain of each image and fair over all (Bridle, Heading and MacKay, NIPS 1991).

    L = 1/n Σ_i H(p_i) - H(p̄)

    No view is compared with another: nothing asks that the classes be those of objects. TWIST with α = β = 1 is this
    and the consistency of views. All views of an image are rows of the batch.

    Args:
        classes: C, classes to discover
        hidden: width of the head's two hidden layers
        norm: batch norm before the softmax, TWIST's; not in the paper
        heads: number of class heads; the one of the lowest recent loss gives the classes
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "small": small(
            {"hidden": 128, "heads": 8},
            source="gemel's settings for small data, those of TWIST's small recipe; the paper has no vision settings",
            views=PhotoViews(global_count=1),
            epochs=24,
            images=1797,
            optimizer=AdamWOptimizer(lr=2e-3, weight_decay=1e-4, warmup_epochs=0, final=1.0),
        )
    }
    title = "Bridle, Heading and MacKay"
    terms: ClassVar[Mapping[str, str]] = {
        "conditional": "mean entropy of an image's classes; low where every image is assigned clearly",
        "marginal": "entropy of the mean over images; at most log C, where all classes are used equally",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "one_class": "take larger batches and keep --method.norm",
        "uniform_classes": "train longer, or raise the learning rate",
    }
    protocols: ClassVar[Mapping[str, str]] = {"finetune": "twist"}
    small: ClassVar[Mapping[str, Any]] = {"classes": 5, "hidden": 16}

    def __init__(
        self,
        backbone: Any,
        *,
        classes: AtLeastTwo = 1000,
        hidden: Count = 2048,
        norm: bool = False,
        heads: HeadCount = 1,
    ) -> None:
        super().__init__(backbone)
        widths = (backbone.width, hidden, hidden, classes)
        self.heads = nn.ModuleList(ClassHead(*widths, norm=norm) for _ in range(heads))
        self.register_buffer("head_losses", torch.zeros(heads))
        self.head_losses: Tensor

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its terms, means over heads."""
        features = features_of(self.backbone, batch.views)
        terms = [bridle_loss(head(features)[1]) for head in self.heads]
        if self.training:
            note_losses(self.head_losses, torch.stack([one["loss"] for one in terms]))
        return {name: torch.stack([one[name] for one in terms]).mean() for name in terms[0]}

    def embed(self, features: Tensor) -> Tensor:
        """Return the best head's logits, (B, C)."""
        return of_best([head(features)[1] for head in self.heads], self.head_losses)

    def classify(self, features: Tensor) -> Tensor:
        """Return class probabilities (B, C) by the best head."""
        return self.embed(features).float().softmax(1)
