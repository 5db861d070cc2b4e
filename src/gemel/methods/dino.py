"""DINO: predict a momentum teacher's centred and sharpened distribution from every crop."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from gemel.backbones.base import features_of
from gemel.data.plan import Batch
from gemel.distributed import mean_over_processes
from gemel.methods.base import Embed, Group, Method, apart
from gemel.methods.parts.contrast import unit
from gemel.methods.parts.counter import Counter
from gemel.methods.parts.heads import mlp
from gemel.methods.parts.precision import exact_products, widened
from gemel.methods.parts.prototypes import Prototypes
from gemel.methods.parts.recipes import RESNET50, changed, imagenet, small, solo, solo_lars
from gemel.methods.parts.swapped import check_views, shares_and_entropy, swapped_cross_entropy
from gemel.methods.parts.teacher import Teacher
from gemel.schedules import cosine
from gemel.settings.recipes import (
    AdamWOptimizer,
    AtLeastTwo,
    Count,
    LarsOptimizer,
    PhotoViews,
    Probability,
    Recipe,
    SgdOptimizer,
)


def dino_loss(
    student_logits: Sequence[Tensor] | Tensor,
    teacher_logits: Sequence[Tensor] | Tensor,
    *,
    center: Tensor,
    teacher_temperature: float,
    student_temperature: float = 0.1,
) -> dict[str, Tensor]:
    r"""Return L = 1/(2(V-1)) Σ_{i<2} Σ_{j≠i} -1/N Σ_n <softmax((t_i - c) / τ_t), log softmax(s_j / τ_s)>.

    Source: arXiv 2104.14294, equation 2 and algorithm 1.

    Args:
        student_logits: s of V >= 2 views, (n, K) each, this process's rows, the two global views first.
        teacher_logits: t of the two global views, (n, K) each; they take no gradient.
        center: c, (K,).
        teacher_temperature: τ_t.
        student_temperature: τ_s.

    Returns:
        loss, and entropy, the mean entropy of the teacher's distributions, 0..log K.

    Raises:
        ValueError: the shapes do not fit.
    """
    views, fixed = list(student_logits), list(teacher_logits)
    check_views(views, fixed)
    with exact_products(center.device):
        targets, entropies = zip(
            *(shares_and_entropy(logits.detach(), center, teacher_temperature) for logits in fixed), strict=True
        )
        loss = swapped_cross_entropy(targets, views, student_temperature)
        entropy = torch.stack(entropies).mean()
        loss, entropy = mean_over_processes(torch.stack([loss, entropy]))
    return {"loss": loss, "entropy": entropy}


@torch.no_grad()
def moved_center(center: Tensor, teacher_logits: Tensor, momentum: float) -> Tensor:
    """Return m c + (1 - m) mean t, (K,), of the global batch's rows t of both views, (2 n, K): after the loss."""
    return center.lerp(mean_over_processes(widened(teacher_logits).mean(0)).to(center.dtype), 1 - momentum)


class DinoHead(nn.Module):
    """An MLP to a narrow layer, rows of length 1, and scores with prototypes.

    Args:
        widths: of the input, of the hidden layers, of the narrow one, and the number of prototypes.
        norm: batch norms in the hidden layers.
        scaled: the prototypes' lengths are learned.
    """

    def __init__(self, *widths: int, norm: bool, scaled: bool) -> None:
        super().__init__()
        self.mlp = mlp(*widths[:-1], norm="batch" if norm else "none", activation="gelu")
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = Prototypes(widths[-2], widths[-1], scaled=scaled)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (n, K) of features (n, width)."""
        rows = self.mlp(features)
        return self.last_layer(unit(rows).to(rows.dtype))


def _transformer(source: str, epochs: int, **method: Any) -> Recipe:
    batch_size = 1024 if epochs > 100 else 512
    optimizer = AdamWOptimizer(
        lr=5e-4,
        weight_decay=0.04,
        final_decay=0.4,
        clip_each=3.0,
        final=1e-6 / (5e-4 * batch_size / 256),
        warmup_inclusive=True,
    )
    return imagenet(
        f"README of arXiv 2104.14294's code, ViT-S/16: {source} on ImageNet", optimizer, epochs=epochs,
        batch_size=batch_size, views="dino",
        backbone={"name": "vit_small_patch16_224", "drop_path": 0.1}, method={"freeze": 1 / epochs, **method},
    )  # fmt: skip


_SGD = SgdOptimizer(lr=0.03, weight_decay=1e-4, clip_each=3.0, final=1e-6 / 0.06, warmup_inclusive=True)
_SOLO = {"prototypes": 4096, "momentum": 0.9995, "teacher_temperature": (0.04, 0.07)}

RECIPES: Mapping[str, Recipe] = {
    "resnet50": imagenet(
        "README of arXiv 2104.14294's code, its example for ResNet-50; no result is printed", _SGD, epochs=100,
        batch_size=512, views="dino_resnet50", backbone=RESNET50, method={"freeze": 0.01},
    ),
    "resnet50_800ep": imagenet(
        "arXiv 2104.14294: linear top-1 75.3, k-NN 67.5 on ImageNet; the released arguments, quoted from memory",
        LarsOptimizer(lr=0.3, weight_decay=1e-6, final=0.0048 / 4.8, warmup_inclusive=True), epochs=800,
        batch_size=4096, views=changed("dino_resnet50", local_count=6), backbone=RESNET50,
        method={
            "layers": 2, "hidden": 4096, "norm": True, "prototypes": 60000, "freeze": 1 / 800,
            "teacher_temperature": (0.04, 0.07), "warmup_epochs": 50,
        },
    ),
    "deit_small": _transformer("linear top-1 76.1, k-NN 73.3", 300, teacher_temperature=(0.04, 0.07),
                               warmup_epochs=30, scaled=True),
    "deit_small_100ep": _transformer("linear top-1 73.8, k-NN 69.3", 100),
    **solo(
        "dino", (89.52, 66.76, 74.84), solo_lars(0.3, 1e-6), views="solo_cifar_asymmetric",
        method=_SOLO | {"freeze": 1 / 1000},
        imagenet100={"views": PhotoViews(), "method": _SOLO | {"freeze": 1 / 400, "warmup_epochs": 50}},
    ),
    "small": small(
        {
            "prototypes": 256, "hidden": 512, "bottleneck": 64, "norm": True, "momentum": 0.95,
            "teacher_temperature": (0.04, 0.04),
        },
        source="gemel's settings for small data: those of Barlow Twins; with a momentum of 0.99 and a head without "
        "norms the k-NN accuracy on digits is 2.7 points lower after 10 epochs",
    ),
}  # fmt: skip


class Dino(Method):
    r"""Predict a momentum teacher's sharpened distribution from every crop (https://arxiv.org/abs/2104.14294).

    L = 1/(2(V-1)) Σ_{i<2} Σ_{j≠i} -1/N Σ_n <softmax((t_i - c) / τ_t), log softmax(s_j / τ_s)>

    The teacher, a moving average of the student, sees the two global views; it is what is kept. The centre c is a
    moving average of its logits. Views of one size go through the backbone in one pass, all through the head together.

    Args:
        prototypes: K, the width of the output
        hidden: width of the head's hidden layers
        bottleneck: width of the head's narrow layer
        layers: of the head, the narrow one among them
        norm: batch norms in the head
        scaled: the lengths of the prototypes are learned; else they stay 1
        momentum: of the teacher at the beginning; half a cosine leads to 1
        center_momentum: of the centre
        student_temperature: τ_s
        teacher_temperature: τ_t of the first epoch and of the last one of its warm-up
        warmup_epochs: epochs in which τ_t goes from one to the other, in equal steps; 0: the second at once
        freeze: share of the run before the last layer learns
    """

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    title = "DINO"
    terms: ClassVar[Mapping[str, str]] = {
        "entropy": "mean entropy of the teacher's distributions; log K or 0 where all images get the same one",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "loss_flat": "lower --method.teacher_temperature, raise --method.freeze, or lower the learning rate",
        "same_embeddings": "lower --method.teacher_temperature and --method.momentum, or the learning rate",
    }
    small: ClassVar[Mapping[str, Any]] = {"prototypes": 6, "hidden": 16, "bottleneck": 8}

    def __init__(
        self,
        backbone: Any,
        *,
        prototypes: AtLeastTwo = 65536,
        hidden: Count = 2048,
        bottleneck: Count = 256,
        layers: Annotated[int, Field(ge=1, le=100)] = 3,
        norm: bool = False,
        scaled: bool = False,
        momentum: Probability = 0.996,
        center_momentum: Probability = 0.9,
        student_temperature: PositiveFloat = 0.1,
        teacher_temperature: tuple[PositiveFloat, PositiveFloat] = (0.04, 0.04),
        warmup_epochs: NonNegativeInt = 0,
        freeze: Probability = 0.0,
    ) -> None:
        super().__init__(backbone)
        self.momentum, self.center_momentum, self.freeze = momentum, center_momentum, freeze
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature
        self.warmup_epochs = warmup_epochs
        widths = (backbone.width, *[hidden] * (layers - 1), bottleneck, prototypes)
        self.head = DinoHead(*widths, norm=norm, scaled=scaled)
        self.teacher = Teacher(backbone, self.head)
        self.center: Tensor
        self.register_buffer("center", torch.zeros(prototypes))
        self.epochs = Counter()

    def before_stage(self, name: str, embed: Embed) -> None:
        """Let the teacher begin as the student."""
        self.teacher.copy(self.backbone, self.head)

    def before_epoch(self, embed: Embed, progress: float) -> None:
        """Count the epochs, by which the teacher's temperature rises."""
        self.epochs.value += 1

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its terms."""
        logits = self.head(features_of(self.backbone, batch.views)).chunk(len(batch.views))
        with torch.no_grad():
            backbone, head = self.teacher.networks
            targets = head(features_of(backbone, batch.views[:2]))
        terms = dino_loss(
            logits,
            targets.chunk(2),
            center=self.center,
            teacher_temperature=self._temperature(),
            student_temperature=self.student_temperature,
        )
        if self.training:
            self.center.copy_(moved_center(self.center, targets, self.center_momentum))
        return terms

    def _temperature(self) -> float:
        """Return τ_t of the epoch."""
        start, end = self.teacher_temperature
        epoch = max(0, self.epochs.value - 1)
        return start + (end - start) * (min(1.0, epoch / max(1, self.warmup_epochs - 1)) if self.warmup_epochs else 1.0)

    def after_step(self, progress: float) -> None:
        """Let the teacher follow."""
        self.teacher.follow(self.backbone, self.head, momentum=cosine(progress, self.momentum, 1.0))

    def encoder(self) -> Any:
        """Return the teacher's backbone."""
        return self.teacher.networks[0]

    def embed(self, features: Tensor) -> Tensor:
        """Return the teacher's logits, (B, K)."""
        return self.teacher.networks[1](features)

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Return whether a parameter decays: biases and what has one dimension do not, tokens and positions do."""
        return parameter.ndim > 1 and not name.endswith(".bias")

    def parameter_groups(self) -> list[Group]:
        """Return the last layer apart, for its later start."""
        return apart(super().parameter_groups(), self.head.last_layer.parameters(), starts=self.freeze)
