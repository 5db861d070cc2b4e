"""IMSAT: classes that carry information, and that no small change of the image changes."""

from collections.abc import Mapping
from math import sqrt
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from gemel.data.plan import Batch
from gemel.distributed import joined_rows, mean_over_processes
from gemel.methods.base import Embed, Method
from gemel.methods.parts.cross_correlation import check_pair
from gemel.methods.parts.heads import mlp
from gemel.methods.parts.information import entropies
from gemel.methods.parts.noise import noise_for
from gemel.methods.parts.recipes import small
from gemel.methods.parts.smoothness import (
    EPSILON,
    divergence,
    harmful_direction,
    kept_statistics,
    neighbour_distances,
    unit,
)
from gemel.methods.parts.whole_set import share_of
from gemel.settings.recipes import AdamOptimizer, AtLeastTwo, Count, PhotoViews, Recipe


def imsat_loss(logits: Tensor, perturbed: Tensor, *, weight: float = 0.1, balance: float = 4.0) -> dict[str, Tensor]:
    r"""Return L = 1/n Σ_i KL(p_i ‖ q_i) + λ [H(Y|X) - μ H(Y)], p of the images, q of the perturbed ones.

    KL(p‖q) = Σ_c p_c log[(p_c + ε)/(q_c + ε)], in which p takes no gradient; the entropies are those of p, ε = 1e-8 in
    their logarithms, H(Y) that of the mean over the global batch. Source: arXiv 1702.08720 and its released code.

    Args:
        logits: of the images, (n, C), this process's rows.
        perturbed: logits of the perturbed images, (n, C).
        weight: λ.
        balance: μ.

    Returns:
        loss; smoothness, the divergence; conditional, H(Y|X); marginal, H(Y).

    Raises:
        ValueError: the shapes differ or are not (n, C).
    """
    check_pair(logits, perturbed)
    conditional, marginal = entropies(logits, epsilon=EPSILON)
    smoothness = mean_over_processes(divergence(logits, perturbed))
    loss = smoothness + weight * (conditional - balance * marginal)
    return {"loss": loss, "smoothness": smoothness, "conditional": conditional, "marginal": marginal}


class Imsat(Method):
    r"""Find informative classes that small changes of the image do not change (https://arxiv.org/abs/1702.08720).

    L = 1/n Σ_i KL(p(x_i) ‖ p(x_i + r_i)) + λ [H(Y|X) - μ H(Y)],   r_i = α R_i d_i

    d_i is the direction in which the classes change most, R_i the distance of the image to its 11th nearest other, by
    their pixels: all of them are held in memory once. The paper's networks see plain images; any one view will do.

    Args:
        classes: C, classes to discover
        hidden: width of the head's two hidden layers
        weight: λ
        balance: μ
        share: α, length of the perturbation as a share of R
        neighbour: which nearest other image gives R
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "mnist": Recipe(
            source="the released code of arXiv 1702.08720: ACC 98.4 on MNIST by the paper; its network is the head on "
            "the pixels of both splits, without convolutions, and it draws every batch from all images anew",
            views=PhotoViews(global_count=1, kinds="plain", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
            backbone={"name": "convnet"},
            image_size=28,
            epochs=50,
            batch_size=250,
            images=70_000,
            optimizer=AdamOptimizer(lr=2.048e-3, weight_decay=0.0, warmup_epochs=0, final=1.0),  # 2e-3 at 250
            method={"classes": 10},
        ),
        "small": small({"hidden": 256}, views=PhotoViews(global_count=1, kinds="plain")),
    }
    title = "IMSAT"
    terms: ClassVar[Mapping[str, str]] = {
        "smoothness": "how much the most harmful small change moves an image's classes; 0 where nothing does",
        "conditional": "mean entropy of an image's classes; low where every image is assigned clearly",
        "marginal": "entropy of the mean over images; at most log C, where all classes are used equally",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "one_class": "raise --method.balance or take larger batches",
        "few_classes": "raise --method.balance, or train longer",
        "uniform_classes": "raise --method.weight, lower --method.share, or train longer",
    }
    protocols: ClassVar[Mapping[str, str]] = {"finetune": "twist"}
    small: ClassVar[Mapping[str, Any]] = {"classes": 4, "hidden": 16, "share": 0.02}

    def __init__(
        self,
        backbone: Any,
        *,
        classes: AtLeastTwo = 10,
        hidden: Count = 1200,
        weight: NonNegativeFloat = 0.1,
        balance: NonNegativeFloat = 4.0,
        share: PositiveFloat = 0.25,
        neighbour: Count = 11,
    ) -> None:
        super().__init__(backbone)
        self.weights, self.share, self.neighbour = {"weight": weight, "balance": balance}, share, neighbour
        self.head = mlp(backbone.width, hidden, hidden, classes)
        layer: Any
        for layer, scale in zip(self.head[::3], (0.1, 0.1, 1e-4), strict=True):
            nn.init.normal_(layer.weight, std=sqrt(scale / layer.in_features))
            nn.init.zeros_(layer.bias)
        for layer in self.head[1::3]:
            layer.eps = 2e-5  # Chainer's

    @property
    def refuses_shares(self) -> str:
        """Images are changed by what the network makes of the whole batch."""
        return "imsat changes its images by what is found of the whole batch; leave it out"

    def attach(self, images: int) -> None:
        """Make room for each image's radius."""
        self.register_buffer("radius", torch.zeros(images))
        self.radius: Tensor

    def before_stage(self, name: str, embed: Embed) -> None:
        """Measure every image's distance to its nearest others, by the pixels that the network sees."""
        found = embed(network=nn.Flatten())
        seen = found.readable.nonzero().flatten()
        points = found.features[seen].to(self.radius.device)
        own = share_of(torch.arange(len(seen)))
        distances = neighbour_distances(
            points[own.to(points.device)], points, int(own[0]) if len(own) else 0, self.neighbour
        )
        self.radius[seen.to(points.device)] = joined_rows(distances).to(self.radius.dtype)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its terms."""
        images = self.single(batch)
        logits = self._logits(images)
        with kept_statistics(self):
            direction = harmful_direction(self._logits, images, logits, unit(noise_for(images, torch.randn)))
            lengths = self.share * self.radius[batch.index].to(images.dtype)
            perturbed = self._logits(images + lengths.view(-1, *[1] * (images.ndim - 1)) * direction.to(images.dtype))
        return imsat_loss(logits, perturbed, **self.weights)

    def _logits(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))

    def embed(self, features: Tensor) -> Tensor:
        """Return the logits, (B, C)."""
        return self.head(features)

    def classify(self, features: Tensor) -> Tensor:
        """Return class probabilities (B, C)."""
        return self.embed(features).float().softmax(1)
