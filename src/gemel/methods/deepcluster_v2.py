"""DeepCluster v2: spherical k-means of last epoch's embeddings, whose centroids are the classifier."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from gemel.backbones.base import features_of
from gemel.data.plan import Batch
from gemel.distributed import joined_rows, mean_over_processes
from gemel.errors import UserError
from gemel.methods.base import Embed, Method
from gemel.methods.parts.best_head import note_losses, of_best
from gemel.methods.parts.heads import mlp
from gemel.methods.parts.kmeans import kmeans
from gemel.methods.parts.precision import exact_products, widened
from gemel.methods.parts.recipes import changed, imagenet, small
from gemel.methods.parts.whole_set import share_of
from gemel.settings.recipes import AtLeastTwo, HeadCount, LarsOptimizer, Recipe, Widths

UNKNOWN = -100
"""label of an image that is not in the memory"""

ROUNDS = 10
"""assignments of a clustering that are followed by new centroids"""


def deepcluster_v2_loss(
    views: Sequence[Tensor], labels: Tensor, centroids: Sequence[Tensor], *, temperature: float = 0.1
) -> dict[str, Tensor]:
    r"""Return L = 1/H Σ_h mean_{i,v} -log softmax(<ẑ_iv, c_h> / τ)_{a_hi}, over rows that have a label.

    ẑ is z divided by its norm. Centroids take no gradient. Source: facebookresearch/swav, main_deepclusterv2.py.

    Args:
        views: z, raw embeddings, V of (n, D), this process's rows.
        labels: a, (H, n), -100 where unknown.
        centroids: c, H of (K_h, D), of norm 1.
        temperature: τ.

    Returns:
        loss, 0 where no row has a label; accuracy, the share of the labelled rows nearest to their own centroid;
        losses, (H,), of each head.

    Raises:
        ValueError: there are not as many labels as rows, or not as many sets of centroids as heads.
    """
    if labels.shape != (len(centroids), len(views[0])):
        raise ValueError(
            f"labels {tuple(labels.shape)} for {len(centroids)} heads and {len(views[0])} images; give (heads, images)"
        )
    with exact_products(views[0].device):
        rows = normalize(widened(torch.cat(list(views))))  # (V·n, D)
        wanted = labels.repeat(1, len(views))  # view after view
        known = mean_over_processes((wanted[0] != UNKNOWN).sum().to(rows.dtype)).clamp_min(1e-9)
        found: list[Tensor] = []
        for one, head in zip(wanted, centroids, strict=True):
            scores = rows @ head.detach().to(rows.dtype).T / temperature
            hits = (scores.argmax(1) == one).sum().to(rows.dtype)
            lost = cross_entropy(scores, one, ignore_index=UNKNOWN, reduction="sum")
            found.append(torch.stack([lost, hits]))
        losses, hits = (mean_over_processes(torch.stack(found)) / known).unbind(1)
    return {"loss": losses.mean(), "accuracy": hits.mean(), "losses": losses}


def _larc(lr: float = 0.3) -> LarsOptimizer:
    return LarsOptimizer(
        lr=lr, weight_decay=1e-6, flavour="L4", final=1e-3, warmup_start=0.3 / 4.8, warmup_inclusive=True
    )


class DeepClusterV2(Method):
    r"""Predict the cluster that an image's embedding of the last epoch was in (https://arxiv.org/abs/2006.09882).

    L = 1/H Σ_h mean -log softmax(<ẑ, c_h> / τ)_{a_h}

    A memory holds the embeddings that two views of each image had in the last epoch. Before an epoch each head clusters
    one of the two views' anew by spherical k-means; the centroids are the classifier, and take no gradient. An image
    that the last epoch left out has no label.

    Args:
        classes: K, clusters of each head
        heads: clusterings; the one of the lowest recent loss gives the classes
        projector: widths of the projector's layers; the last is the memory's
        temperature: τ
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "resnet50": imagenet(
            "the released code of arXiv 2006.09882, two views: linear top-1 70.2 on ImageNet after 400 epochs",
            _larc(), epochs=400, batch_size=4096, views=changed("swav", local_count=0, scale=(0.08, 1)),
        ),
        "resnet50-multicrop": imagenet(
            "the released code of arXiv 2006.09882, six small views: linear top-1 75.2 on ImageNet after 800 epochs",
            _larc(), epochs=800, batch_size=4096, views="swav",
        ),
        "small": small({"projector": (256, 64), "heads": 3}),
    }  # fmt: skip
    title = "DeepCluster v2"
    terms: ClassVar[Mapping[str, str]] = {
        "accuracy": "share of views nearest to the centroid of their image's last cluster; rises as clusters settle",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "few_classes": "train longer, or ask for fewer --classes",
        "uniform_classes": "train longer, or lower --method.temperature",
    }
    protocols: ClassVar[Mapping[str, str]] = {"finetune": "twist"}
    small: ClassVar[Mapping[str, Any]] = {"classes": 4, "projector": (16, 8), "heads": 2}

    def __init__(
        self,
        backbone: Any,
        *,
        classes: AtLeastTwo = 3000,
        heads: HeadCount = 3,
        projector: Widths = (2048, 128),
        temperature: PositiveFloat = 0.1,
    ) -> None:
        super().__init__(backbone)
        self.temperature = temperature
        self.projector = mlp(backbone.width, *projector)
        self.centroids: Tensor
        self.head_losses: Tensor
        self.register_buffer("centroids", torch.zeros(heads, classes, projector[-1]))
        self.register_buffer("head_losses", torch.zeros(heads))
        self._seen: tuple[Tensor, Tensor] | None = None

    def attach(self, images: int) -> None:
        """Make room for two embeddings of each image, and its labels."""
        heads, _, width = self.centroids.shape
        self.memory: Tensor
        self.written: Tensor
        self.labels: Tensor
        self.register_buffer("memory", torch.zeros(2, images, width))
        self.register_buffer("written", torch.zeros(images, dtype=torch.bool))
        self.register_buffer("labels", torch.full((heads, images), UNKNOWN))

    def before_stage(self, name: str, embed: Embed) -> None:
        """Fill the memory with augmented views in training mode, as released.

        Raises:
            UserError: there are fewer than two views, or fewer images than clusters.
        """
        found = embed(self.projector, views=True, training=True)
        if found.features.shape[1] < 2:
            raise UserError("DeepClusterV2 takes two or more global views of an image; give --views.global_count 2")
        classes = self.centroids.shape[1]
        if found.readable.sum() < classes:
            raise UserError(f"{int(found.readable.sum())} images for {classes} clusters; ask for fewer --classes")
        self.memory.copy_(normalize(found.features[:, :2], dim=2).transpose(0, 1))
        self.written.copy_(found.readable)

    def before_epoch(self, embed: Embed, progress: float) -> None:
        """Cluster what the last epoch wrote, from random rows on, each head by itself."""
        seen = self.written.nonzero().flatten()
        if not len(seen):
            return  # no step was made since the last clustering
        self.labels.fill_(UNKNOWN)
        for head, centroids in enumerate(self.centroids):
            rows = self.memory[head % 2, seen]
            start = rows[torch.randperm(len(rows))[: len(centroids)].to(rows.device)]
            found = kmeans(share_of(rows), start, iterations=ROUNDS, spherical=True)
            centroids[: len(start)].copy_(found.centroids)
            self.labels[head, seen] = joined_rows(found.labels)
        self.written.fill_(False)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss, and how many views are nearest to their own centroid."""
        z = self.projector(features_of(self.backbone, batch.views)).chunk(len(batch.views))
        self._seen = batch.index, normalize(torch.stack(z[:2]).detach().to(self.memory.dtype), dim=2)
        labels = self.labels[:, batch.index]
        terms = deepcluster_v2_loss(z, labels, self.centroids.unbind(), temperature=self.temperature)
        losses = terms.pop("losses")
        if self.training:
            note_losses(self.head_losses, losses)
        return terms

    def after_step(self, progress: float) -> None:
        """Write the embeddings that the step began with into the memory."""
        if self._seen is not None:
            index, found = joined_rows(self._seen[0]), joined_rows(self._seen[1].transpose(0, 1)).transpose(0, 1)
            self.memory.index_copy_(1, index, found)
            self.written.index_fill_(0, index, True)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Everything decays and takes the trust ratio, biases and norms too, as released."""
        return True

    def embed(self, features: Tensor) -> Tensor:
        """Return <ẑ, c> / τ of the best head, (B, K)."""
        best = of_best(list(self.centroids), self.head_losses)
        return normalize(self.projector(features)) @ best.T / self.temperature

    def classify(self, features: Tensor) -> Tensor:
        """Return class probabilities (B, K) by the best head."""
        return self.embed(features).float().softmax(1)
