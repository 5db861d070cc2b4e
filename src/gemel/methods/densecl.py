"""DenseCL: MoCo v2, and a contrast of matched positions of the feature maps."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from gemel.backbones.base import Backbone
from gemel.data.plan import Batch
from gemel.distributed import gather
from gemel.methods.base import Embed, Method
from gemel.methods.moco_v2 import moco_v2_loss
from gemel.methods.parts.contrast import unit
from gemel.methods.parts.heads import mlp
from gemel.methods.parts.norm_groups import in_groups
from gemel.methods.parts.precision import exact_products
from gemel.methods.parts.queue import Queue
from gemel.methods.parts.recipes import RESNET50, imagenet, small
from gemel.methods.parts.teacher import Teacher
from gemel.schedules import cosine
from gemel.settings.recipes import Count, Probability, Recipe, SgdOptimizer, Widths


def densecl_loss(
    query: Tensor,
    key: Tensor,
    query_grid: Tensor,
    key_grid: Tensor,
    match: Tensor,
    queue: Tensor,
    dense_queue: Tensor,
    *,
    temperature: float = 0.2,
    dense_weight: float = 0.5,
) -> dict[str, Tensor]:
    r"""Return L = (1 - λ) L_q + λ L_r: `moco_v2_loss` of the vectors, and of each position s with its match c(s).

    L_r = 1/(N S) Σ_i Σ_s -log [exp(<r̂_is, r̂'_ic(s)> / τ) / (exp(<r̂_is, r̂'_ic(s)> / τ) + Σ_j exp(<r̂_is, n_j> / τ))].
    Source: arXiv 2011.09157, equations 2 to 4.

    Args:
        query: raw global vectors of the queries, (n, D), this process's rows.
        key: raw global vectors of the keys, (n, D), which take no gradient, nor do the maps and the grids of the keys.
        query_grid: raw dense vectors r of the queries, (n, D, S).
        key_grid: raw dense vectors r' of the keys, (n, D, S').
        match: c, the key's position for each of the query's, (n, S); see `matched`.
        queue: unit columns of earlier global keys, (D, K).
        dense_queue: unit columns of earlier keys' mean dense vectors, (D, K).
        temperature: τ, above 0.
        dense_weight: λ.

    Returns:
        loss, and its unweighted parts single and dense.

    Raises:
        ValueError: the shapes do not fit, or τ is not positive.
    """
    if query_grid.ndim != 3 or key_grid.shape[:2] != query_grid.shape[:2] or match.shape != query_grid[:, 0].shape:
        raise ValueError(
            f"grids (n, D, S) and a match (n, S) are needed, not {tuple(query_grid.shape)}, {tuple(key_grid.shape)} "
            f"and {tuple(match.shape)}"
        )
    positives = key_grid.gather(2, match[:, None].expand(-1, key_grid.shape[1], -1))
    one, two = (grid.transpose(1, 2).flatten(0, 1) for grid in (query_grid, positives))  # (n·S, D)
    single = moco_v2_loss(query, key, queue, temperature=temperature)["loss"]
    dense = moco_v2_loss(one, two, dense_queue, temperature=temperature)["loss"]
    return {"loss": (1 - dense_weight) * single + dense_weight * dense, "single": single, "dense": dense}


@torch.no_grad()
def matched(query_map: Tensor, key_map: Tensor) -> Tensor:
    """Return c(s) = argmax_s' cos(F_s, F'_s'), (n, S): the key's position whose features are the most alike.

    Args:
        query_map: F, the backbone's map of the query, (n, C, S).
        key_map: F', that of the key, (n, C, S').
    """
    with exact_products(query_map.device):
        return (unit(query_map).mT @ unit(key_map)).argmax(2)


def _official(source: str, epochs: int, lr: float, images: int | None = None) -> Recipe:
    found = imagenet(
        f"released code of arXiv 2011.09157: {source}; the backbone's initial weights are timm's",
        SgdOptimizer(lr=lr, weight_decay=1e-4, warmup_epochs=0, final=0.0, rate_by="epoch"), epochs=epochs,
        batch_size=256, views="moco_v2", backbone=RESNET50, method={"groups": 8},
    )  # fmt: skip
    return found if images is None else found.model_copy(update={"images": images})


RECIPES: Mapping[str, Recipe] = {
    "resnet50": _official("200 epochs on ImageNet: box AP 58.7 on VOC", 200, 0.03),
    "resnet50_coco": _official("800 epochs on COCO's 118,287 images: box AP 56.7 on VOC", 800, 0.3, 118_287),
    "small": small({"projector": (512, 128), "queue": 1024, "momentum": (0.99, 0.99)}),
}  # fmt: skip


class DenseHead(nn.Module):
    """A vector of the features, and one for each position of the map.

    Args:
        width: of the features.
        channels: of the map.
        projector: widths of the layers, the same in both.
    """

    def __init__(self, width: int, channels: int, projector: tuple[int, ...]) -> None:
        super().__init__()
        self.mlp = mlp(width, *projector, norm="none")
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
                nn.init.zeros_(layer.bias)
        layers = [nn.Conv2d(a, b, 1) for a, b in zip((channels, *projector[:-1]), projector, strict=True)]
        acts = [nn.ReLU(inplace=True) for _ in layers[1:]]
        self.dense = nn.Sequential(*(one for pair in zip(layers, acts, strict=False) for one in pair), layers[-1])

    def forward(self, features: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        """Return vectors (n, D), and (n, D, S) of a map (n, C, H, W), S = H W."""
        return self.mlp(features), self.dense(found).flatten(2)


class DenseCl(Method):
    r"""Contrast images as MoCo v2, and matched positions of their feature maps (https://arxiv.org/abs/2011.09157).

    L = (1 - λ) L_q + λ L_r,   L_r of each position of the query with the key's position whose features are most alike

    Keys are outputs of a moving average of the network, which is updated before they are computed. The query encoder is
    what is kept, mostly for detection and segmentation; all of its parameters decay.

    Args:
        temperature: τ
        projector: widths of the layers of both projectors, which have no norms
        queue: K, earlier keys that are negatives, of vectors and of the maps' means
        momentum: of the average, at the beginning and at the end; half a cosine leads from one to the other
        dense_weight: λ
        groups: parts of the batch that batch norms see by themselves, keys in shuffled parts: 8 for 8 released GPUs
    """

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    title = "DenseCL"
    terms: ClassVar[Mapping[str, str]] = {
        "single": "contrast of whole images with the queue; falls as they are told apart",
        "dense": "contrast of the maps' positions with the queue of mean positions; falls",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "views_disagree": "train longer, or lower --method.temperature",
        "same_embeddings": "raise --method.momentum, lower the learning rate, or take a longer --method.queue",
    }
    protocols: ClassVar[Mapping[str, str]] = {"linear": "moco", "detection": "moco"}
    small: ClassVar[Mapping[str, Any]] = {"projector": (16, 8), "queue": 24}

    def __init__(
        self,
        backbone: Backbone,
        *,
        temperature: PositiveFloat = 0.2,
        projector: Widths = (2048, 128),
        queue: Count = 65536,
        momentum: tuple[Probability, Probability] = (0.999, 0.999),
        dense_weight: Probability = 0.5,
        groups: Count = 1,
    ) -> None:
        super().__init__(backbone)
        self.temperature, self.dense_weight = temperature, dense_weight
        self.momentum, self.groups = momentum, groups
        self.head = DenseHead(backbone.width, backbone.map_channels()[-1], projector)
        self.teacher = Teacher(backbone, self.head)
        self.queue, self.dense_queue = (Queue(projector[-1], queue) for _ in range(2))
        self._keys = torch.zeros(0, 2, projector[-1])

    def before_stage(self, name: str, embed: Embed) -> None:
        """Let the key encoder begin as the query encoder."""
        self.teacher.copy(self.backbone, self.head)

    @property
    def refuses_shares(self) -> str:
        """Batch norms are to see groups, which are other parts of the batch."""
        return "" if self.groups == 1 else f"batch norms see {self.groups} groups of the batch; take --method.groups 1"

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its parts."""
        one, two = self.pair(batch)
        query, query_grid, query_map = self._passed(self.backbone, self.head, one)
        with torch.no_grad():
            if self.training:
                self.teacher.follow(self.backbone, self.head, momentum=cosine(progress, *self.momentum))
            backbone, head = self.teacher.networks
            key, key_grid, key_map = self._passed(backbone, head, two, shuffled=True)
            # the mean comes before the length: not the mean of vectors of length 1
            self._keys = gather(torch.stack([unit(key), unit(key_grid.mean(2))], 1))
        return densecl_loss(
            query,
            key,
            query_grid,
            key_grid,
            matched(query_map, key_map),
            self.queue.rows,
            self.dense_queue.rows,
            temperature=self.temperature,
            dense_weight=self.dense_weight,
        )

    def after_step(self, progress: float) -> None:
        """Let the step's keys follow into the queues."""
        self.queue.push(self._keys[:, 0])
        self.dense_queue.push(self._keys[:, 1])

    def _passed(self, backbone: Any, head: nn.Module, view: Tensor, *, shuffled: bool = False) -> tuple[Tensor, ...]:
        """Return vectors (n, D), dense vectors (n, D, S) and the backbone's last map (n, C, S)."""

        def features_and_map(images: Tensor) -> tuple[Tensor, ...]:
            features, maps = backbone.with_maps(images)
            return features, maps[-1]

        features, found = in_groups(features_and_map, view, self.groups, shuffled=shuffled)
        return *head(features, found), found.flatten(2)

    def embed(self, features: Tensor) -> Tensor:
        """Return the global vectors, (B, D)."""
        return self.head.mlp(features)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Return True: biases and norms decay, too."""
        return True
