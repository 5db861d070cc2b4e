"""Self-Classifier: one view's class is the other's label, under a uniform prior of classes and of images."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from gemel.backbones.base import features_of
from gemel.data.plan import Batch
from gemel.distributed import gather, joined_rows, mean_over_processes, world_size
from gemel.methods.base import Method
from gemel.methods.parts.information import entropies
from gemel.methods.parts.neighbour_queue import NeighbourQueue
from gemel.methods.parts.precision import exact_products, widened
from gemel.methods.parts.recipes import changed, imagenet, small
from gemel.methods.parts.self_classifier_head import ProjectionHead, classifier
from gemel.settings.recipes import AtLeastTwo, LarsOptimizer, Recipe, Widths


def self_classifier_loss(
    views: Sequence[Tensor],
    *,
    row_temperature: float = 0.1,
    column_temperature: float = 0.05,
    epsilon: float = 1e-8,
) -> dict[str, Tensor]:
    r"""Return the mean of L_ab = -1/N Σ_i Σ_c t_ic log(N/C p̃_ic + ε) over the pairs a ≠ b that are not both local.

    t is the softmax over images of s_a / τ_column, its rows divided by their sums; p̃ the softmax over classes of
    s_b / τ_row, its columns divided by theirs; a sum is at least ε. N counts the images of the global batch. The target
    takes a gradient too. Source: arXiv 2103.10994 and its released code, which trains with ε = 1e-12.

    Args:
        views: s, logits, V >= 2 tensors (n, C), this process's rows; the two global views first.
        row_temperature: τ_row.
        column_temperature: τ_column.
        epsilon: ε.

    Returns:
        loss; conditional, the mean entropy of a row of the global views' softmax, and marginal, the entropy of its
        mean, which take no gradient.

    Raises:
        ValueError: fewer than two views, or shapes that differ or are not (n, C).
    """
    shapes = {tuple(view.shape) for view in views}
    if len(views) < 2 or len(shapes) != 1 or views[0].ndim != 2:
        raise ValueError(f"two or more matrices (n, C) of one shape are needed, not {len(views)} of {sorted(shapes)}")
    with exact_products(views[0].device):
        s = widened(torch.stack(list(views)))  # (V, n, C)
        images, classes = s.shape[1] * world_size(), s.shape[2]
        columns = s / column_temperature
        # a class's softmax over the images of all processes
        log_sums = gather(columns.logsumexp(1)[None]).logsumexp(0)  # (V, C)
        targets = (columns - log_sums[:, None]).exp()
        targets = targets / targets.sum(2, keepdim=True).clamp_min(epsilon)
        p = (s / row_temperature).softmax(2)
        sums = (mean_over_processes(p.sum(1)) * world_size()).clamp_min(epsilon)  # (V, C)
        log_p = (images / classes * p / sums[:, None] + epsilon).log()
        pairs = torch.einsum("ijk,ljk->il", targets, log_p) / -s.shape[1]  # (V, V)
        # each of the two global views with all others, and they with it
        total = pairs[:2].sum() + pairs[2:, :2].sum() - pairs[0, 0] - pairs[1, 1]
        loss = mean_over_processes(total) / (4 * len(views) - 6)
        with torch.no_grad():
            conditional, marginal = entropies(s[:2].flatten(0, 1) / row_temperature)
    return {"loss": loss, "conditional": conditional, "marginal": marginal}


def _larc(lr: float) -> LarsOptimizer:
    return LarsOptimizer(
        lr=lr / 16, weight_decay=1e-6, flavour="L4", final=1e-3, warmup_start=0.2 / lr, warmup_inclusive=True
    )


class SelfClassifier(Method):
    r"""Let an image's views give each other's class under a uniform prior (https://arxiv.org/abs/2103.10994).

    L_ab = -1/N Σ_i Σ_c t_ic log(N/C p̃_ic + ε),   t normalised over images, p̃ over classes, over pairs of views

    Head h has 2^h times as many classes as asked for; the first one gives the classes. Once the queue is full the first
    view's embedding is replaced by its nearest neighbour's in the queue, which takes no gradient.

    Args:
        classes: C of the first head
        heads: number of class heads; each has twice the classes of the one before
        projector: widths of the projector's layers
        row_temperature: τ of the softmax over classes
        column_temperature: τ of the softmax over images
        epsilon: ε
        queue: embeddings that the queue holds; 0: no neighbours
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "resnet50": imagenet(
            "README of arXiv 2103.10994's code: linear top-1 74.1, ACC 41.1, NMI 73.3 on ImageNet after 800 epochs; "
            "its batch was 4092",
            _larc(3.2), epochs=800, batch_size=4096, views="self_classifier",
        ),
        "resnet50-100": imagenet(
            "README of arXiv 2103.10994's code: linear top-1 72.4, ACC 37.3, NMI 71.2 on ImageNet; its batch was 4092",
            _larc(4.8), epochs=100, batch_size=4096, views="self_classifier",
        ),
        "small": small(
            {"projector": (256, 64), "heads": 3, "queue": 0},
            views=changed("self_classifier", local_count=0, scale=(0.14, 1)),
        ),
    }  # fmt: skip
    title = "Self-Classifier"
    terms: ClassVar[Mapping[str, str]] = {
        "conditional": "mean entropy of an image's classes; low where every image is assigned clearly",
        "marginal": "entropy of the mean over images; at most log C, where all classes are used equally",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "one_class": "take larger batches: the prior is that of the batch",
        "uniform_classes": "train longer, or lower --method.column_temperature",
    }
    protocols: ClassVar[Mapping[str, str]] = {"finetune": "twist"}
    small: ClassVar[Mapping[str, Any]] = {"classes": 4, "heads": 2, "projector": (16, 8), "queue": 24}

    def __init__(
        self,
        backbone: Any,
        *,
        classes: AtLeastTwo = 1000,
        heads: Annotated[int, Field(gt=0, le=16)] = 4,
        projector: Widths = (4096, 128),
        row_temperature: PositiveFloat = 0.1,
        column_temperature: PositiveFloat = 0.05,
        epsilon: PositiveFloat = 1e-12,
        queue: NonNegativeInt = 262_144,
    ) -> None:
        super().__init__(backbone)
        self.options = {
            "row_temperature": row_temperature, "column_temperature": column_temperature, "epsilon": epsilon,
        }  # fmt: skip
        self.projector = ProjectionHead(backbone.width, *projector)
        self.heads = nn.ModuleList(classifier(projector[-1], classes * 2**head) for head in range(heads))
        self.queue = NeighbourQueue(projector[-1], queue) if queue else None
        self._pushed: tuple[Tensor, Tensor] | None = None

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss, the mean over heads, and the first head's entropies."""
        views = list(self.projector(features_of(self.backbone, batch.views)).chunk(len(batch.views)))
        if self.queue is not None:
            self._pushed = views[0].detach(), batch.index
            views[0] = self.queue.nearest(views[0], batch.index).where(self.queue.full, views[0])
        terms = [self_classifier_loss(head(torch.cat(views)).chunk(len(views)), **self.options) for head in self.heads]
        return terms[0] | {"loss": torch.stack([one["loss"] for one in terms]).mean()}

    def after_step(self, progress: float) -> None:
        """Push the first views' embeddings of all processes, as they were before they were replaced."""
        if self.queue is not None and self._pushed is not None:
            self.queue.push(*(joined_rows(one) for one in self._pushed))

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Everything decays and takes the trust ratio, biases and norms too, as released."""
        return True

    def embed(self, features: Tensor) -> Tensor:
        """Return the first head's logits, (B, C)."""
        return self.heads[0](self.projector(features))

    def classify(self, features: Tensor) -> Tensor:
        """Return class probabilities (B, C) by the first head."""
        return (self.embed(features) / self.options["row_temperature"]).float().softmax(1)
