"""DeepCluster: k-means of all features before each epoch, and a classifier of its clusters that is made anew."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, relu

from gemel.backbones.base import features_of
from gemel.data.plan import Batch
from gemel.distributed import joined_rows, mean_over_processes
from gemel.errors import UserError
from gemel.methods.base import Embed, Group, Method, apart
from gemel.methods.parts.cluster_sampler import sampled_order, without_gaps
from gemel.methods.parts.counter import Counter
from gemel.methods.parts.kmeans import kmeans
from gemel.methods.parts.precision import exact_products, widened
from gemel.methods.parts.recipes import changed, small
from gemel.methods.parts.whitening import Whitening
from gemel.methods.parts.whole_set import share_of
from gemel.metrics.clustering import clustering_scores
from gemel.settings.recipes import AtLeastTwo, Count, PhotoViews, Recipe, SgdOptimizer

Sampler = Literal["released", "uniform", "plain"]

ROUNDS = 20
"""of k-means"""


def deepcluster_loss(features: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> dict[str, Tensor]:
    r"""Return L = 1/n Σ_i -log softmax(W relu(z_i) + b)_{a_i}, over the global batch.

    Source: arXiv 1807.05520 and its released code.

    Args:
        features: z, (n, D), this process's rows.
        weight: W, (K, D).
        bias: b, (K,).
        labels: a, (n,), clusters.

    Returns:
        loss; accuracy, the share of images whose largest logit is their cluster's.
    """
    with exact_products(features.device):
        logits = linear(relu(widened(features)), widened(weight), widened(bias))
        hits = (logits.argmax(1) == labels).to(logits.dtype).mean()
        both = mean_over_processes(torch.stack([cross_entropy(logits, labels), hits]))
    return {"loss": both[0], "accuracy": both[1].detach()}


class DeepCluster(Method):
    r"""Predict the k-means cluster of an image's features, anew in every epoch (https://arxiv.org/abs/1807.05520).

    L = 1/n Σ_i -log softmax(W relu(z_i) + b)_{a_i}

    Before each epoch the features of all plain images are whitened by PCA, made of norm 1 and clustered; the top layer
    W, b begins anew. Its classes are those of the last epoch. `--backbone.in_channels 2` shows the network the Sobel
    gradients of the images, as in the paper.

    Args:
        classes: K, clusters
        hidden: widths of the layers between backbone and top layer; none: the backbone's features are clustered
        dropout: chance of a zero before each of them
        dimensions: what PCA keeps
        sampler: uniform: all clusters equally often, as the paper says; released: what its code does, by a mistake
            nearly the same as plain
        least_steps: clusters stay for so many steps at least, as few images make epochs too short for a new top layer
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "vgg16": Recipe(
            source="the released main.sh of arXiv 1807.05520, with VGG-16; the paper prints linear probes of it; "
            "features are clustered before their last ReLU there, after it here",
            views=changed(
                "byol", global_count=1, interpolation="bilinear", jitter=0, gray=0, blur=0, solarize=0,
            ),
            backbone={"name": "vgg16_bn", "in_channels": 2},
            image_size=224,
            epochs=200,
            batch_size=256,
            optimizer=SgdOptimizer(lr=0.05, weight_decay=1e-5, warmup_epochs=0, final=1.0),
            method={"hidden": ()},
        ),
        "small": small(
            {"hidden": (256,), "dropout": 0.0, "dimensions": 16, "sampler": "uniform", "least_steps": 100},
            views=PhotoViews(global_count=1),
        ),
    }  # fmt: skip
    title = "DeepCluster"
    terms: ClassVar[Mapping[str, str]] = {
        "accuracy": "share of images whose likeliest class is their cluster; rises as the clusters are learned",
        "stability": "NMI of the clusters and those before; rises as they settle; 0 in the first epoch",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "few_classes": "take --method.sampler uniform, or ask for fewer --classes",
        "one_class": "take --method.sampler uniform, and keep batch norms",
    }
    protocols: ClassVar[Mapping[str, str]] = {"finetune": "twist"}
    small: ClassVar[Mapping[str, Any]] = {"classes": 4, "hidden": (16,), "dropout": 0.0, "dimensions": 8}

    def __init__(
        self,
        backbone: Any,
        *,
        classes: AtLeastTwo = 10_000,
        hidden: Annotated[tuple[Count, ...], Field(max_length=100)] = (4096, 4096),
        dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5,
        dimensions: Count = 256,
        sampler: Sampler = "released",
        least_steps: NonNegativeInt = 0,
    ) -> None:
        super().__init__(backbone)
        self.least_steps, self.learned = least_steps, Counter()
        self.dimensions, self.sampler, self._renews = dimensions, sampler, False
        layers: list[nn.Module] = []
        for before, after in pairwise((backbone.width, *hidden)):
            layers += [nn.Dropout(dropout), nn.Linear(before, after), nn.ReLU()]
        self.head = nn.Sequential(*layers[:-1])
        self.top = nn.Linear(hidden[-1] if hidden else backbone.width, classes)
        self.register_buffer("stability", torch.zeros(()))
        self.stability: Tensor

    def attach(self, images: int) -> None:
        """Make room for each image's cluster; -1 where it can't be read."""
        self.register_buffer("labels", torch.full((images,), -1))
        self.labels: Tensor

    def before_epoch(self, embed: Embed, progress: float) -> None:
        """Cluster all features, and make the top layer anew, unless it has just begun.

        Raises:
            UserError: there are fewer images than clusters.
        """
        if 0 < self.learned.value < self.least_steps:
            return
        self.learned.value = 0
        found = embed(self.head)
        seen, device = found.readable.nonzero().flatten(), self.labels.device
        classes = self.top.out_features
        if len(seen) < classes:
            raise UserError(f"{len(seen)} images for {classes} clusters; ask for fewer --classes")
        own = share_of(found.features[seen]).to(device)
        whitening = Whitening.of(own, self.dimensions)
        start = found.features[seen[torch.randperm(len(seen))[:classes]]].to(device)
        clusters = kmeans(whitening(own), whitening(start), iterations=ROUNDS)
        labels = without_gaps(joined_rows(clusters.labels))
        seen = seen.to(device)
        before = self.labels[seen]
        if bool((before >= 0).all()):
            self.stability.fill_(clustering_scores(before.cpu().numpy(), labels.cpu().numpy())["nmi"])
        self.labels.index_copy_(0, seen, labels)
        nn.init.normal_(self.top.weight, std=0.01)
        nn.init.zeros_(self.top.bias)
        self._renews = True

    def renewed(self) -> list[nn.Parameter]:
        """Return the top layer's parameters where it was made anew."""
        renews, self._renews = self._renews, False
        return list(self.top.parameters()) if renews else []

    def order(self, epoch: int) -> Tensor | None:
        """Return the epoch's order by the sampler."""
        if self.sampler == "plain":
            return None
        seen = (self.labels >= 0).nonzero().flatten().cpu().numpy()
        random = np.random.RandomState(int(torch.randint(2**31, ())))
        rows = sampled_order(self.labels.cpu().numpy()[seen], random, released=self.sampler == "released")
        # as many as there are images, where some can't be read
        return torch.from_numpy(np.resize(seen[rows], len(self.labels)))

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and what is said of the clusters; all views are rows."""
        z = self.head(features_of(self.backbone, batch.views))
        labels = self.labels[batch.index].clamp_min(0).repeat(len(batch.views))  # -1: could not be read before
        return deepcluster_loss(z, self.top.weight, self.top.bias, labels) | {"stability": self.stability.clone()}

    def after_step(self, progress: float) -> None:
        """Count the steps of this top layer."""
        self.learned.value += 1

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Everything decays, biases and norms too, as released."""
        return True

    def parameter_groups(self) -> list[Group]:
        """Return the top layer in a group without momentum, whose rate stays: it is made anew to the end."""
        return apart(super().parameter_groups(), self.top.parameters(), momentum=0.0, schedule="constant")

    def embed(self, features: Tensor) -> Tensor:
        """Return the logits of the top layer, (B, K)."""
        return self.top(relu(self.head(features)))

    def classify(self, features: Tensor) -> Tensor:
        """Return class probabilities (B, K)."""
        return self.embed(features).float().softmax(1)
