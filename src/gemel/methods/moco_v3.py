"""MoCo v3: find an image's key among the batch's, from a prediction; for transformers too."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from gemel.data.batches import Batch
from gemel.distributed import gather, mean_over_processes
from gemel.methods.base import Embed, Method
from gemel.methods.parts.contrast import check_contrast, log_sum_exp, unit
from gemel.methods.parts.heads import mlp, view_by_view
from gemel.methods.parts.precision import exact_products
from gemel.methods.parts.recipes import ZERO_INIT, imagenet, small, solo, solo_lars
from gemel.methods.parts.teacher import Teacher
from gemel.schedules import cosine
from gemel.settings.recipes import AdamWOptimizer, Count, LarsOptimizer, PhotoViews, Probability, Recipe


def moco_v3_loss(
    query_one: Tensor, query_two: Tensor, key_one: Tensor, key_two: Tensor, *, temperature: float = 1.0
) -> dict[str, Tensor]:
    r"""Return ctr(q₁, k₂) + ctr(q₂, k₁), ctr(q, k) = 2τ/N Σ_i -log [exp(<q̂_i, k̂_i> / τ) / Σ_j exp(<q̂_i, k̂_j> / τ)].

    Candidates are the other view's keys of the global batch. Source: arXiv 2104.02057, algorithm 1.

    Args:
        query_one: raw predictions of the first views, (n, D), this process's rows.
        query_two: raw predictions of the second views, (n, D).
        key_one: raw projections of the first views by the average, (n, D); without gradient.
        key_two: the same of the second views.
        temperature: τ, above 0.

    Returns:
        loss, first = ctr(q₁, k₂) and second = ctr(q₂, k₁).

    Raises:
        ValueError: the shapes differ, are not (n, D), or τ is not positive.
    """
    check_contrast(temperature, query_one, query_two, key_one, key_two)
    with exact_products(query_one.device):
        one, two = (_contrast(*pair, temperature) for pair in ((query_one, key_two), (query_two, key_one)))
        first, second = mean_over_processes(torch.stack([one, two]))
    return {"loss": first + second, "first": first, "second": second}


def _contrast(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    rows, keys = unit(query), unit(key.detach())
    similarity = (rows * keys).sum(1) / temperature
    return 2 * temperature * (log_sum_exp(rows, gather(keys), temperature) - similarity).mean()


def _official(epochs: int, lr: float, top1: float, *, momentum: float, decay: float = 1e-6) -> Recipe:
    return imagenet(
        f"released code of arXiv 2104.02057: linear top-1 {top1} on ImageNet",
        LarsOptimizer(lr=lr, weight_decay=decay, final=0.0), epochs=epochs, batch_size=4096, views="moco_v3_resnet50",
        backbone=ZERO_INIT, method={"momentum": momentum},
    )  # fmt: skip


def _transformer(size: str, top1: float) -> Recipe:
    return imagenet(
        f"released code of arXiv 2104.02057, ViT-{size[0].upper()}/16: linear top-1 {top1} on ImageNet",
        AdamWOptimizer(lr=1.5e-4, weight_decay=0.1, warmup_epochs=40, warmup_share=0.2, final=0.0),
        epochs=300, batch_size=4096, views="moco_v3_vit", backbone={"name": "vit_sine", "size": size},
        method={"form": "transformer", "temperature": 0.2},
    )  # fmt: skip


RECIPES: Mapping[str, Recipe] = {
    "resnet50": _official(1000, 0.3, 74.6, momentum=0.996, decay=1.5e-6),
    "resnet50_300ep": _official(300, 0.3, 72.8, momentum=0.99),
    "resnet50_100ep": _official(100, 0.6, 68.9, momentum=0.99),
    "vit_small": _transformer("small", 73.2),
    "vit_base": _transformer("base", 76.7),
    **solo(
        "mocov3", (93.10, 68.83, 80.36), solo_lars(0.3, 1e-6), views="solo_cifar_asymmetric",
        method={"temperature": 0.2}, imagenet100={"views": PhotoViews()},
    ),
    "small": small({"hidden": 512, "width": 128, "temperature": 0.2}),
}  # fmt: skip


class MocoV3(Method):
    r"""Find an image's key among the batch's, from a prediction (https://arxiv.org/abs/2104.02057).

    L = ctr(q₁, k₂) + ctr(q₂, k₁),   ctr(q, k) = 2τ/N Σ_i -log [exp(<q̂_i, k̂_i> / τ) / Σ_j exp(<q̂_i, k̂_j> / τ)]

    Keys are projections by a moving average of backbone and projector, which is updated before they are computed: the
    one that is saved has not seen the last step. The network that is trained is what is kept.

    Args:
        temperature: τ; the paper's: 1 for ResNets, 0.2 for transformers
        hidden: width of the hidden layers of projector and predictor
        width: of projections and predictions
        momentum: of the average at the beginning; half a cosine leads to 1
        form: resnet: a projector of two layers, biases and norms do not decay; transformer: of three, a last norm in
            the predictor too, everything decays
    """

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    title = "MoCo v3"
    terms: ClassVar[Mapping[str, str]] = {
        "first": "contrast of the first view's prediction with the second's keys; falls as images are told apart",
        "second": "the same from the second view to the first",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "views_disagree": "train longer, take larger batches, or lower --method.temperature",
        "same_embeddings": "lower the learning rate, or raise --method.momentum",
    }
    small: ClassVar[Mapping[str, Any]] = {"hidden": 16, "width": 8}

    def __init__(
        self,
        backbone: Any,
        *,
        temperature: PositiveFloat = 1.0,
        hidden: Count = 4096,
        width: Count = 256,
        momentum: Probability = 0.99,
        form: Literal["resnet", "transformer"] = "resnet",
    ) -> None:
        super().__init__(backbone)
        self.temperature, self.momentum, self.form = temperature, momentum, form
        layers = (backbone.width, *[hidden] * (1 if form == "resnet" else 2), width)
        self.projector = mlp(*layers, bias=False, last_norm="plain")
        self.predictor = mlp(width, hidden, width, bias=False, last_norm="none" if form == "resnet" else "plain")
        self.teacher = Teacher(backbone, self.projector)

    def before_stage(self, name: str, embed: Embed) -> None:
        """Let the average begin as the network."""
        self.teacher.copy(self.backbone, self.projector)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its two directions; batch norms see each view by itself."""
        views = self.pair(batch)
        projections = view_by_view(self.projector, [self.backbone(view) for view in views])
        queries = view_by_view(self.predictor, projections)
        with torch.no_grad():
            if self.training:
                self.teacher.follow(self.backbone, self.projector, momentum=cosine(progress, self.momentum, 1.0))
            backbone, projector = self.teacher.networks
            keys = view_by_view(projector, [backbone(view) for view in views])
        return moco_v3_loss(*queries, *keys, temperature=self.temperature)

    def embed(self, features: Tensor) -> Tensor:
        """Return the projector's output, (B, D)."""
        return self.projector(features)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Return whether a parameter decays: those of more than one dimension, for a transformer all."""
        return self.form == "transformer" or parameter.ndim > 1
