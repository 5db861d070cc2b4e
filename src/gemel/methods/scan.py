"""SCAN: one class for an image and its nearest neighbours, found once; then labels from the certain images."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn

from gemel.data.plan import Batch
from gemel.errors import UserError
from gemel.methods.base import Embed, Group, Method
from gemel.methods.parts.best_head import note_losses, of_best
from gemel.methods.parts.recipes import CIFAR, RESNET50, changed, small
from gemel.methods.parts.scan_losses import compare_heads, scan_loss, scan_self_labeling_loss
from gemel.methods.parts.teacher import Teacher
from gemel.metrics.neighbours import nearest
from gemel.settings.recipes import (
    AdamOptimizer,
    AtLeastTwo,
    Count,
    HeadCount,
    PhotoViews,
    Probability,
    Recipe,
    SgdOptimizer,
    Stage,
)

__all__ = ["Scan", "scan_loss", "scan_self_labeling_loss"]

COMPARED = 6
"""columns of the neighbours by which heads are compared: the image itself and its five nearest"""


def mined_neighbours(features: Tensor, count: int) -> Tensor:
    """Return the rows of the largest cosine, (N, 1 + count): the row itself, then its nearest; exact."""
    index = nearest(features, features, count, leave_one_out=True)[1]
    return torch.cat([torch.arange(len(features), device=index.device)[:, None], index], dim=1)


_CERTAIN = {"global_count": 2, "kinds": ("plain", "strong")}


def _adam(rate: float, batch_size: int) -> AdamOptimizer:
    return AdamOptimizer(lr=rate * 256 / batch_size, weight_decay=1e-4, warmup_epochs=0, final=1.0)


class Scan(Method):
    r"""Give an image and its nearest neighbours one class, then learn from the certain images (arXiv 2005.12320).

    L = -1/n Σ_i log<p_i, p_n(i)> - λ H(p̄),   then cross-entropy of a strong view to the class of the plain one

    As the clustering begins, the nearest neighbours of every image are found by the backbone's features: those of
    another run (`--weights RUN`) or pretrained ones; untrained features give poor neighbours. One of them, or the image
    itself, is drawn anew in every epoch. The second stage (`--then.epochs`) begins with the head that is best by the
    loss, without labels, and trains everything.

    Args:
        classes: C, classes to discover
        heads: number of class heads, whose losses are added; the best by the loss is kept
        neighbours: nearest neighbours of an image among which its partner is drawn, beside itself
        entropy_weight: λ
        frozen: the backbone stays as it is in the first stage, its norms in evaluation mode
        threshold: probability above which an image labels itself, in the second stage
        balanced: there, the mean over classes of the mean over a class's images
        average: momentum of an average of the weights there, which is copied back after every step; none: no average
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "cifar10": Recipe(
            source="the released configs of arXiv 2005.12320: ACC 81.6 on CIFAR-10, 88.3 after self-labeling (best "
            "model), from SimCLR of 500 epochs: give it as --weights; neighbours are found by its head there, by its "
            "features here",
            views=PhotoViews(global_count=1, kinds="strong", **CIFAR[10]),
            backbone={"name": "resnet18", "stem": "small"},
            image_size=32,
            epochs=50,
            batch_size=128,
            images=50_000,
            optimizer=_adam(1e-4, 128),
            then=Stage(epochs=200, views=_CERTAIN, optimizer={"lr": 2e-4}),  # 1e-4, of batches of 1000 there
            method={"classes": 10, "heads": 1},
        ),
        "imagenet": Recipe(
            source="the released configs of arXiv 2005.12320: ACC 39.9, NMI 72.0 on ImageNet, from MoCo v2 of 800 "
            "epochs: give it as --weights; the paper's batch was 512 to 1024",
            views=changed("simclr", global_count=1, scale=(0.2, 1), blur=0, solarize=0),
            backbone=RESNET50,
            image_size=224,
            epochs=100,
            batch_size=1024,
            optimizer=SgdOptimizer(lr=1.25, weight_decay=0.0, warmup_epochs=0, final=1.0),
            then=Stage(epochs=25, views=_CERTAIN, optimizer={"lr": 0.0075}),
            method={
                "classes": 1000, "heads": 10, "neighbours": 50, "frozen": True, "balanced": False, "average": 0.999,
            },
        ),
        "small": small(
            {"heads": 5}, views=PhotoViews(global_count=1), then=Stage(views=_CERTAIN, optimizer={"lr": 2e-4})
        ),
    }  # fmt: skip
    stages = ("clustering", "self_labeling")
    title = "SCAN"
    terms: ClassVar[Mapping[str, str]] = {
        "consistency": "-log of the agreement with a neighbour; 0 where both are surely of one class",
        "entropy": "of the mean over images; at most log C, where all classes are used equally",
        "kept": "share of the images that label themselves; in self-labeling only",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "one_class": "raise --method.entropy_weight or take larger batches",
        "few_classes": "raise --method.entropy_weight, or start from better features (--weights)",
        "uniform_classes": "train longer, or lower --method.entropy_weight",
    }
    protocols: ClassVar[Mapping[str, str]] = {"finetune": "twist"}
    small: ClassVar[Mapping[str, Any]] = {"classes": 4, "heads": 2, "neighbours": 5}

    def __init__(
        self,
        backbone: Any,
        *,
        classes: AtLeastTwo = 10,
        heads: HeadCount = 1,
        neighbours: Count = 20,
        entropy_weight: NonNegativeFloat = 5.0,
        frozen: bool = False,
        threshold: Probability = 0.99,
        balanced: bool = True,
        average: Probability | None = None,
    ) -> None:
        super().__init__(backbone)
        self.neighbours, self.entropy_weight, self.frozen = neighbours, entropy_weight, frozen
        self.certain = {"threshold": threshold, "balanced": balanced}
        self.heads = nn.ModuleList(nn.Linear(backbone.width, classes) for _ in range(heads))
        self.momentum = average
        self.average = None if average is None else Teacher(backbone, self.heads)
        self.register_buffer("head_losses", torch.zeros(heads))
        self.head_losses: Tensor

    def before_stage(self, name: str, embed: Embed) -> None:
        """Find the neighbours as the clustering begins, and the best head as the self-labeling does.

        Raises:
            UserError: there are fewer images than neighbours.
        """
        features, readable = embed()
        device = self.head_losses.device
        if name == "clustering":
            seen = readable.nonzero().flatten()
            if len(seen) <= self.neighbours:
                raise UserError(f"{len(seen)} images for --method.neighbours {self.neighbours}; ask for fewer")
            near = mined_neighbours(features[seen].to(device), self.neighbours).cpu()
            partners = torch.arange(len(readable))[:, None].repeat(1, near.shape[1])
            partners[seen] = seen[near]
            self.partners = partners.to(device)
            return
        assert self.partners is not None
        near, self.partners = self.partners[:, :COMPARED], None
        heads = [head(features.to(device, self.head_losses.dtype)).softmax(1) for head in self.heads]
        self.head_losses.copy_(compare_heads(torch.stack(heads).detach(), near).total)
        if self.average is not None:
            self.average.copy(self.backbone, self.heads)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss of the stage, and its terms."""
        if self.stage == "self_labeling":
            return self._self_labeling(*self.pair(batch))
        anchors, near = self.backbone(self.single(batch)), self.backbone(batch.partners[0])
        terms = [scan_loss(head(anchors), head(near), entropy_weight=self.entropy_weight) for head in self.heads]
        found = {name: torch.stack([one[name] for one in terms]) for name in terms[0]}
        if self.training:
            note_losses(self.head_losses, found["consistency"] - found["entropy"])  # λ = 1, as heads are compared
        return {name: values.mean() for name, values in found.items()} | {"loss": found["loss"].sum()}

    def _self_labeling(self, plain: Tensor, strong: Tensor) -> dict[str, Tensor]:
        """Train the best head; the others stay in the graph, so that processes agree on what has a gradient."""
        with torch.no_grad():
            weak = self._all(plain)
        best = self.head_losses.argmin()[None]
        found = [logits.index_select(0, best)[0] for logits in (weak, self._all(strong))]
        return scan_self_labeling_loss(*found, **self.certain)

    def _all(self, images: Tensor) -> Tensor:
        """Return the logits of all heads, (H, n, C)."""
        features = self.backbone(images)
        return torch.stack([head(features) for head in self.heads])

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Copy the average of the weights back, in the second stage; norms get the statistics that it began with."""
        if self.average is not None and self.momentum is not None and self.stage == "self_labeling":
            own = self.backbone, self.heads
            self.average.follow(*own, momentum=self.momentum)
            for one, average in zip(own, self.average.networks, strict=True):
                one.load_state_dict(average.state_dict())

    def train(self, mode: bool = True) -> "Scan":
        """Switch modes; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self._is_frozen():
            self.backbone.eval()
        return self

    def _is_frozen(self) -> bool:
        return self.frozen and self.stage == "clustering"

    def parameter_groups(self) -> list[Group]:
        """Return the groups of the stage; it is asked for them as it begins, and on a resume."""
        self.backbone.requires_grad_(not self._is_frozen())
        self.train(self.training)
        return super().parameter_groups()

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Everything decays, biases and norms too, as released."""
        return True

    def embed(self, features: Tensor) -> Tensor:
        """Return the best head's logits, (B, C)."""
        return of_best([head(features) for head in self.heads], self.head_losses)

    def classify(self, features: Tensor) -> Tensor:
        """Return class probabilities (B, C) by the best head."""
        return self.embed(features).float().softmax(1)
