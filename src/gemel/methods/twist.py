"""TWIST: twin class distributions, consistent, sharp and diverse."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from gemel.backbones.base import features_of
from gemel.data.batches import Batch
from gemel.methods.base import Method
from gemel.methods.parts.heads import mlp
from gemel.methods.parts.twist_losses import multi_crop_loss, self_labeling_loss, teacher_loss, twist_loss
from gemel.recipes import AdamWOptimizer, Count, LarsOptimizer, PhotoViews, Recipe

__all__ = ["ClassHead", "Twist", "multi_crop_loss", "self_labeling_loss", "teacher_loss", "twist_loss"]


class ClassHead(nn.Module):
    """Linear-BN-ReLU-Linear-BN-ReLU-Linear, and a batch norm without scale and shift before the softmax (NBS).

    Args:
        widths: of the input, the hidden layers and the classes.
        norm: whether NBS stands; without it the diversity term can hardly be optimised (TWIST's Table 7).
    """

    def __init__(self, *widths: int, norm: bool) -> None:
        super().__init__()
        self.layers = mlp(*widths)
        self.norm = nn.BatchNorm1d(widths[-1], affine=False) if norm else nn.Identity()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (R, d) to logits (R, C) before and after the batch norm."""
        before = self.layers(features)
        return before, self.norm(before)


class Twist(Method):
    r"""Learn twin class distributions that are consistent, sharp and diverse (https://arxiv.org/abs/2110.07402).

    L = ½[KL(p¹‖p²) + KL(p²‖p¹)] + α ½[EH(p¹) + EH(p²)] - β ½[HE(p¹) + HE(p²)],   p = softmax(BN(head(features)))

    Both views go through the network in one pass. With several heads, each with its own batch norm and loss, the one
    with the lowest loss of late gives the classes: a start that ends in a poor optimum is dropped without labels.

    Args:
        classes: C, classes to discover
        hidden: width of the head's two hidden layers
        alpha: α, weight of the sharpness
        beta: β, weight of the diversity
        temperature: τ of the entropies
        epsilon: ε inside the logarithms; 0: log-softmax
        norm: batch norm before the softmax
        heads: number of class heads
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "resnet50": Recipe(
            source="released code of arXiv 2110.07402, two views: linear top-1 72.6 on ImageNet",
            views=PhotoViews(),
            backbone={"name": "resnet50", "zero_init": False},
            image_size=224,
            epochs=800,
            batch_size=2048,
            optimizer=LarsOptimizer(lr=0.5, weight_decay=1.5e-6, flavour="L2"),
            method={"classes": 32768},
        ),
        "small": Recipe(
            source="gemel's experiments on digits; results in the README",
            views=PhotoViews(),
            backbone={"name": "resnet18"},
            image_size=64,
            epochs=24,
            batch_size=128,
            images=1797,
            optimizer=AdamWOptimizer(lr=2e-3, weight_decay=1e-4, warmup_epochs=0, final=1.0),
            method={"hidden": 128, "alpha": 1.2, "heads": 8},
        ),
    }

    def __init__(
        self,
        backbone: Any,
        *,
        classes: Annotated[int, Field(ge=2, le=1_000_000)] = 4096,
        hidden: Count = 4096,
        alpha: NonNegativeFloat = 1.0,
        beta: NonNegativeFloat = 1.0,
        temperature: PositiveFloat = 1.0,
        epsilon: NonNegativeFloat = 1e-5,
        norm: bool = True,
        heads: Annotated[int, Field(gt=0, le=1000)] = 1,
    ) -> None:
        super().__init__(backbone)
        self.alpha, self.beta, self.temperature, self.epsilon = alpha, beta, temperature, epsilon
        widths = (backbone.width, hidden, hidden, classes)
        self.heads = nn.ModuleList(ClassHead(*widths, norm=norm) for _ in range(heads))
        self.register_buffer("head_losses", torch.zeros(heads))
        self.head_losses: Tensor

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """All views in one pass of the backbone and of each head."""
        features = features_of(self.backbone, self.pair(batch))  # (V·B, width)
        logits = [head(features) for head in self.heads]
        terms = [self._loss(after.chunk(2)) for _, after in logits]
        losses = torch.stack([term["loss"] for term in terms])
        if self.training:
            self.head_losses.lerp_(losses.detach().to(self.head_losses.dtype), 0.02)  # about the last 50 steps
        best = self._best()
        mean = {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}
        return mean | _spread(*(one.detach() for one in logits[best]))

    def _loss(self, views: Sequence[Tensor]) -> dict[str, Tensor]:
        one, two = views
        return twist_loss(
            one, two, alpha=self.alpha, beta=self.beta, temperature=self.temperature, epsilon=self.epsilon
        )

    def _best(self) -> int:
        return int(self.head_losses.argmin())

    def embed(self, features: Tensor) -> Tensor:
        """The best head's logits after the batch norm, (B, C)."""
        return self.heads[self._best()](features)[1]

    def classify(self, features: Tensor) -> Tensor:
        """Class probabilities (B, C) by the best head."""
        return self.embed(features).float().softmax(1)


def _spread(before: Tensor, after: Tensor) -> dict[str, Tensor]:
    """Standard deviation by column and by row of the logits, before and after the batch norm (TWIST's Table 7)."""
    return {
        f"std_{name}_{place}": logits.float().std(axis, correction=0).mean()
        for place, logits in (("before", before), ("after", after))
        for name, axis in (("columns", 0), ("rows", 1))
    }
