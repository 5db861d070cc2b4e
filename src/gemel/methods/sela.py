"""SeLa: predict labels that make all classes equally large, remade a hundred times on the way."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from gemel.backbones.base import features_of
from gemel.data.plan import Batch
from gemel.distributed import joined_rows, mean_over_processes
from gemel.methods.base import Embed, Method
from gemel.methods.parts.best_head import note_losses, of_best
from gemel.methods.parts.counter import Counter
from gemel.methods.parts.equipartition import equipartition
from gemel.methods.parts.precision import exact_products, widened
from gemel.methods.parts.recipes import CIFAR, changed, imagenet, small
from gemel.methods.parts.whole_set import share_of
from gemel.settings.recipes import AtLeastTwo, Count, HeadCount, PhotoViews, Recipe, SgdOptimizer

Spacing = Literal["quadratic", "linear"]


def sela_loss(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    r"""Return L = 1/H Σ_h mean_i -log softmax(f_h(x_i))_{L_hi}, over the global batch.

    Source: arXiv 1911.05371 and its released code.

    Args:
        logits: f, (H, n, K), this process's rows.
        labels: L, (H, n).

    Returns:
        loss; accuracy, the share of images whose largest logit is their label's; losses, (H,), of each head.

    Raises:
        ValueError: the labels are not (H, n).
    """
    if logits.ndim != 3 or labels.shape != logits.shape[:2]:
        raise ValueError(f"logits (H, n, K) and labels (H, n) are needed, not {logits.shape} and {labels.shape}")
    with exact_products(logits.device):
        rows = cross_entropy(widened(logits).flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
        losses = mean_over_processes(rows.mean(1))
        hits = (logits.argmax(2) == labels).to(rows.dtype).mean()
    return {"loss": losses.mean(), "accuracy": mean_over_processes(hits), "losses": losses}


def relabel_times(count: int, spacing: Spacing = "quadratic") -> list[float]:
    """Return the values of progress after which labels are made anew; the first is 0, before all steps.

    The released code counts images, to 1.01 epochs beyond the last of the E that it is told: (E + 1.01) N t, while it
    trains E + 1 epochs.

    >>> relabel_times(5)
    [0.0, 0.0625, 0.25, 0.5625, 1.0]
    """
    return [(step / max(1, count - 1)) ** (2 if spacing == "quadratic" else 1) for step in range(count)]


def _sgd(lr: float, decay: float, *milestones: float) -> SgdOptimizer:
    return SgdOptimizer(lr=lr, weight_decay=decay, warmup_epochs=0, milestones=milestones, rate_by="epoch")


_VIEWS: dict[str, Any] = {
    "global_count": 1, "interpolation": "bilinear", "jitter": 1, "saturation": 0.4, "blur": 0, "solarize": 0,
}  # fmt: skip


class SeLa(Method):
    r"""Predict labels that an optimal transport spreads evenly over the classes (https://arxiv.org/abs/1911.05371).

    L = 1/H Σ_h mean_i -log softmax(f_h(x_i))_{L_hi},   L_h = argmax_k r_k P_ik c_i,   P = softmax(f_h)^λ

    r and c give every class as many images as any other. Labels of all images are made anew at given times, more often
    at the beginning. As released they are made of augmented images in training mode, and the first time is before the
    first step.

    Args:
        classes: K, classes of each head
        heads: labellings; the one of the lowest recent loss gives the classes
        exponent: λ
        tolerance: of the transport: Σ_i |c_i / c'_i - 1| over all images
        relabels: how often labels are made, at most; the last time is never reached
        spacing: of these times; quadratic: more often at the beginning
        one_head: one head a time gets new labels, in turns of epochs; the others keep theirs, at first random ones
        augmented_labels: labels from augmented images in training mode, as released; no: from plain ones
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "resnet50": imagenet(
            "the released resnet.sh (rate 0.08 by its argparse): its ResNet-50 is a pre-activation one, and no result "
            "of it is printed; the README's linear 68.8 is of another run, with MoCo v2's views",
            _sgd(0.08, 1e-5, 0.375, 0.75, 0.875), epochs=400, batch_size=256,
            views=PhotoViews(gray_first=True, contrast=0.4, hue=0.4, **_VIEWS),
        ),
        "cifar10": Recipe(
            source="the released cifar.py: linear top-1 of CIFAR-10 is not printed; the network is gemel's choice",
            views=PhotoViews(scale=(0.2, 1), hue=0.4, **_VIEWS, **CIFAR[10]),
            backbone={"name": "resnet18", "stem": "small"},
            image_size=32,
            epochs=400,
            batch_size=128,
            images=50_000,
            optimizer=_sgd(0.06, 5e-4, 0.6, 0.8),  # 0.03 at its batch of 128
            method={
                "classes": 128, "exponent": 10.0, "tolerance": 0.01, "relabels": 400, "spacing": "linear",
                "one_head": True,
            },
        ),
        "small": small(
            {"heads": 5, "relabels": 30}, views=changed("byol", global_count=1), source=(
                "gemel's settings for small data: those of Barlow Twins; labels are made about once an epoch"
            ),
        ),
    }  # fmt: skip
    title = "SeLa"
    terms: ClassVar[Mapping[str, str]] = {
        "accuracy": "share of images whose likeliest class is their label; rises as the labels are learned",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "few_classes": "train longer, or ask for fewer --classes",
        "uniform_classes": "train longer, or raise the learning rate",
    }
    protocols: ClassVar[Mapping[str, str]] = {"finetune": "twist"}
    small: ClassVar[Mapping[str, Any]] = {"classes": 4, "heads": 2, "relabels": 4}

    def __init__(
        self,
        backbone: Any,
        *,
        classes: AtLeastTwo = 3000,
        heads: HeadCount = 10,
        exponent: PositiveFloat = 25.0,
        tolerance: PositiveFloat = 0.1,
        relabels: Count = 100,
        spacing: Spacing = "quadratic",
        one_head: bool = False,
        augmented_labels: bool = True,
    ) -> None:
        super().__init__(backbone)
        self.transport: dict[str, Any] = {"exponent": exponent, "tolerance": tolerance}
        self.times, self.one_head, self.augmented = relabel_times(relabels, spacing), one_head, augmented_labels
        self.classes = classes
        self.heads = nn.ModuleList(nn.Linear(backbone.width, classes) for _ in range(heads))
        self.relabelled, self.epochs = Counter(), Counter()
        self.register_buffer("head_losses", torch.zeros(heads))
        self.head_losses: Tensor

    def attach(self, images: int) -> None:
        """Make room for each head's labels of all images."""
        self.register_buffer("labels", torch.zeros(len(self.heads), images, dtype=torch.int64))
        self.labels: Tensor

    def before_stage(self, name: str, embed: Embed) -> None:
        """Begin with labels of equal frequency in random order."""
        classes, images = self.classes, self.labels.shape[1]
        for labels in self.labels:
            labels.copy_((torch.arange(images) % classes)[torch.randperm(images)])

    def before_epoch(self, embed: Embed, progress: float) -> None:
        """Count the epochs."""
        self.epochs.value += 1

    def before_step(self, embed: Embed, progress: float) -> None:
        """Make labels anew where it is time."""
        due = sum(time < progress or time == 0 for time in self.times)
        if due > self.relabelled.value:
            self.relabelled.value = due
            self._relabel(embed)

    @torch.no_grad()
    def _relabel(self, embed: Embed) -> None:
        found = embed(views=True, training=True) if self.augmented else embed()
        features = found.features[:, 0] if self.augmented else found.features
        seen = found.readable.nonzero().flatten()
        own = share_of(features[seen])
        turn = (self.epochs.value - 1) % len(self.heads)
        for number, head in enumerate(self.heads):
            if number != turn and self.one_head:
                continue

            def scores(part: slice, head: nn.Module = head) -> Tensor:
                rows = own[part].to(self.labels.device, self.head_losses.dtype)
                return log_softmax(head(rows).double(), 1)

            labels = equipartition(scores, len(own), **self.transport).labels
            self.labels[number, seen.to(self.labels.device)] = joined_rows(labels)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss, and how many images' likeliest class is their label; all views are rows."""
        features = features_of(self.backbone, batch.views)
        logits = torch.stack([head(features) for head in self.heads])
        terms = sela_loss(logits, self.labels[:, batch.index].repeat(1, len(batch.views)))
        losses = terms.pop("losses")
        if self.training:
            note_losses(self.head_losses, losses)
        return terms

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Everything decays, biases and norms too, as released."""
        return True

    def embed(self, features: Tensor) -> Tensor:
        """Return the best head's logits, (B, K)."""
        return of_best([head(features) for head in self.heads], self.head_losses)

    def classify(self, features: Tensor) -> Tensor:
        """Return class probabilities (B, K) by the best head."""
        return self.embed(features).float().softmax(1)
