"""MoCo v2: tell an image's key from a queue of earlier keys."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from gemel.data.plan import Batch
from gemel.distributed import gather, mean_over_processes
from gemel.methods.base import Embed, Method
from gemel.methods.parts.contrast import check_contrast, check_pairs, log_sum_exp, unit
from gemel.methods.parts.heads import mlp
from gemel.methods.parts.norm_groups import in_groups
from gemel.methods.parts.precision import exact_products
from gemel.methods.parts.queue import Queue
from gemel.methods.parts.recipes import imagenet, small, solo, warmed
from gemel.methods.parts.teacher import Teacher
from gemel.schedules import cosine
from gemel.settings.recipes import Count, Probability, Recipe, SgdOptimizer, Widths


def moco_v2_loss(query: Tensor, key: Tensor, queue: Tensor, *, temperature: float = 0.2) -> dict[str, Tensor]:
    r"""Return L = 1/n Σ_i -log [exp(<q̂_i, k̂_i> / τ) / (exp(<q̂_i, k̂_i> / τ) + Σ_j exp(<q̂_i, n_j> / τ))].

    Source: arXiv 1911.05722, equation 1, with the temperature of arXiv 2003.04297.

    Args:
        query: raw outputs of the query encoder, (n, D), this process's rows.
        key: raw outputs of the key encoder for the same images, (n, D); they take no gradient.
        queue: unit columns of earlier keys, (D, K), the same on every process.
        temperature: τ, above 0.

    Returns:
        loss; similarity, the mean cosine of a query and its key, -1..1; crowding, the mean of log Σ exp over the queue.

    Raises:
        ValueError: the shapes do not fit, or τ is not positive.
    """
    check_contrast(temperature, query, key)
    check_pairs(query[:0], queue.T[:0])
    with exact_products(query.device):
        rows, positive = unit(query), unit(key.detach())
        similarity = (rows * positive).sum(1)
        crowding = log_sum_exp(rows, queue.T.to(rows.dtype), temperature)
        loss = torch.logaddexp(similarity / temperature, crowding) - similarity / temperature
        found = mean_over_processes(torch.stack([loss.mean(), similarity.mean(), crowding.mean()]))
    return dict(zip(("loss", "similarity", "crowding"), found, strict=True))


def _sgd(lr: float = 0.03) -> SgdOptimizer:
    return SgdOptimizer(lr=lr, weight_decay=1e-4, warmup_epochs=0, final=0.0, rate_by="epoch")


def _official(source: str, epochs: int) -> Recipe:
    return imagenet(source, _sgd(), epochs=epochs, batch_size=256, views="moco_v2", method={"groups": 8})


_PLUS = {
    "projector": (2048, 256), "queue": 32768, "symmetric": True, "momentum": (0.99, 0.999),
}  # fmt: skip

RECIPES: Mapping[str, Recipe] = {
    "resnet50": _official("released code of arXiv 2003.04297: linear top-1 67.5 on ImageNet", 200),
    "resnet50_800ep": _official("released code of arXiv 2003.04297: linear top-1 71.1 on ImageNet", 800),
    **solo(
        "mocov2plus", (92.94, 69.89, 78.20), warmed(SgdOptimizer(lr=0.3, weight_decay=1e-4)),
        views="solo_cifar_symmetric_weak", method=_PLUS, imagenet100={"method": _PLUS | {"queue": 65536}},
    ),
    "small": small({"projector": (512, 128), "queue": 1024, "momentum": (0.99, 0.99)}),
}  # fmt: skip


class MocoV2(Method):
    r"""Tell an image's key from a queue of earlier keys (https://arxiv.org/abs/2003.04297).

    L = 1/n Σ_i -log [exp(<q̂_i, k̂_i> / τ) / (exp(<q̂_i, k̂_i> / τ) + Σ_j exp(<q̂_i, n_j> / τ))]

    Keys are outputs of a moving average of the network, which is updated before they are computed: the one that is
    saved has not seen the last step. The query encoder is what is kept; all of its parameters decay.

    Args:
        temperature: τ
        projector: widths of the projector's layers, which have no norms
        queue: K, earlier keys that are negatives
        momentum: of the average, at the beginning and at the end; half a cosine leads from one to the other
        symmetric: each view is query and key, with a queue for each (solo-learn's MoCo v2+)
        groups: parts of the batch that batch norms see by themselves, keys in shuffled parts: 8 for 8 released GPUs
    """

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    title = "MoCo v2"
    terms: ClassVar[Mapping[str, str]] = {
        "similarity": "mean cosine of a query and its own key; rises to 1 as an image's views agree",
        "crowding": "log of the summed similarities to the queue; falls as images spread out",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "views_disagree": "train longer, or lower --method.temperature",
        "same_embeddings": "raise --method.momentum, lower the learning rate, or take a longer --method.queue",
    }
    protocols: ClassVar[Mapping[str, str]] = {"linear": "moco", "detection": "moco"}
    small: ClassVar[Mapping[str, Any]] = {"projector": (16, 8), "queue": 24}

    def __init__(
        self,
        backbone: Any,
        *,
        temperature: PositiveFloat = 0.2,
        projector: Widths = (2048, 128),
        queue: Count = 65536,
        momentum: tuple[Probability, Probability] = (0.999, 0.999),
        symmetric: bool = False,
        groups: Count = 1,
    ) -> None:
        super().__init__(backbone)
        self.temperature, self.momentum, self.groups = temperature, momentum, groups
        self.projector = mlp(backbone.width, *projector, norm="none")
        self.teacher = Teacher(backbone, self.projector)
        self.queues: Any = nn.ModuleList(Queue(projector[-1], queue) for _ in range(1 + symmetric))
        self._keys: list[Tensor] = []

    def before_stage(self, name: str, embed: Embed) -> None:
        """Let the key encoder begin as the query encoder."""
        self.teacher.copy(self.backbone, self.projector)

    @property
    def refuses_shares(self) -> str:
        """Batch norms are to see groups, which are other parts of the batch."""
        return "" if self.groups == 1 else f"batch norms see {self.groups} groups of the batch; take --method.groups 1"

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its terms, means over the directions where there are two."""
        views, directions = self.pair(batch), len(self.queues)
        queries = [self._passed(self.backbone, self.projector, view) for view in views[:directions]]
        with torch.no_grad():
            if self.training:
                self.teacher.follow(self.backbone, self.projector, momentum=cosine(progress, *self.momentum))
            backbone, projector = self.teacher.networks
            keys = [self._passed(backbone, projector, view, shuffled=True) for view in views[::-1][:directions]]
            self._keys = [gather(unit(key)) for key in keys]
        terms = [
            moco_v2_loss(query, key, queue.rows, temperature=self.temperature)
            for query, key, queue in zip(queries, keys, self.queues, strict=True)
        ]
        return {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}

    def after_step(self, progress: float) -> None:
        """Let the step's keys follow into the queue: they are never negatives of their own queries."""
        for queue, keys in zip(self.queues, self._keys, strict=True):
            queue.push(keys)

    def _passed(self, backbone: nn.Module, projector: nn.Module, view: Tensor, *, shuffled: bool = False) -> Tensor:
        (features,) = in_groups(lambda images: (backbone(images),), view, self.groups, shuffled=shuffled)
        return projector(features)

    def embed(self, features: Tensor) -> Tensor:
        """Return the projector's output, (B, D)."""
        return self.projector(features)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Return True: biases and norms decay, too."""
        return True
