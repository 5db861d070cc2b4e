"""TWIST: twin class distributions, consistent, sharp and diverse."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, cast

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from gemel.backbones.base import features_of
from gemel.data.batches import Batch
from gemel.errors import UserError
from gemel.methods.base import Method
from gemel.methods.parts.class_head import ClassHead, Form, gradient_size, spreads
from gemel.methods.parts.teacher import Teacher
from gemel.methods.parts.twist_losses import multi_crop_loss, self_labeling_loss, teacher_loss, twist_loss
from gemel.methods.parts.twist_recipes import RECIPES
from gemel.schedules import cosine
from gemel.settings.recipes import Count, Probability, Recipe

__all__ = ["ClassHead", "Twist", "multi_crop_loss", "self_labeling_loss", "teacher_loss", "twist_loss"]


class Twist(Method):
    r"""Learn twin class distributions that are consistent, sharp and diverse (https://arxiv.org/abs/2110.07402).

    L = ½[KL(p¹‖p²) + KL(p²‖p¹)] + α ½[EH(p¹) + EH(p²)] - β ½[HE(p¹) + HE(p²)],   p = softmax(BN(head(features)))

    Views of one size go through the backbone in one pass, and all views through the head together. Of more than two
    views, L is the mean over pairs of a global and a later view. In a second stage, self-labeling, the more certain
    global view labels the other views of the images that it is most certain of.

    With several heads, each with its own batch norm and loss, the one with the lowest loss of late gives the classes: a
    start that ends in a poor optimum is dropped without labels.

    Args:
        classes: C, classes to discover
        hidden: width of the head's two hidden layers
        alpha: α, weight of the sharpness
        beta: β, weight of the diversity
        temperature: τ of the entropies; with a teacher, of all terms
        epsilon: ε inside the logarithms; 0: log-softmax
        norm: batch norm before the softmax
        bunch: images that share its statistics; none: the global batch
        heads: number of class heads
        form: of the heads; convolutional: ReLU; transformer: GELU, first weights of standard deviation 0.02
        teacher: a momentum teacher of the global views gives the targets, and is what is kept
        momentum: of the teacher at the beginning; half a cosine leads to 1
        quantile: share of images that label themselves, at the beginning and at the end of the second stage
        group: images among which they are chosen; none: a process's batch, as released
    """

    stages = ("pretrain", "self_labeling")

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES

    def __init__(
        self,
        backbone: Any,
        *,
        classes: Annotated[int, Field(ge=2, le=1_000_000)] = 4096,
        hidden: Count = 4096,
        alpha: NonNegativeFloat = 1.0,
        beta: NonNegativeFloat = 1.0,
        temperature: PositiveFloat = 1.0,
        epsilon: NonNegativeFloat = 1e-5,
        norm: bool = True,
        bunch: Count | None = None,
        heads: Annotated[int, Field(gt=0, le=1000)] = 1,
        form: Form = "convolutional",
        teacher: bool = False,
        momentum: Probability = 0.996,
        quantile: tuple[Probability, Probability] = (0.5, 0.6),
        group: Count | None = None,
    ) -> None:
        super().__init__(backbone)
        self.weights = {"alpha": alpha, "beta": beta, "temperature": temperature, "epsilon": epsilon}
        self.momentum, self.quantile, self.group = momentum, quantile, group
        self.self_labeling = False
        widths = (backbone.width, hidden, hidden, classes)
        self.heads = nn.ModuleList(ClassHead(*widths, norm=norm, bunch=bunch, form=form) for _ in range(heads))
        self.teacher = Teacher(backbone, self.heads) if teacher else None
        self.register_buffer("head_losses", torch.zeros(heads))
        self.head_losses: Tensor

    def before_stage(self, name: str) -> None:
        """The teacher begins as a copy of the student; the second stage labels by itself.

        Raises:
            UserError: there is no second stage with a teacher.
        """
        self.self_labeling = name == "self_labeling"
        if self.teacher is not None:
            if self.self_labeling:
                raise UserError("self-labeling has no teacher; --then.epochs 0 or --method.teacher no")
            self.teacher.copy(self.backbone, self.heads)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Views of one size in one pass of the backbone, all of them in one of each head."""
        count = len(batch.views)
        features = features_of(self.backbone, batch.views)  # (V·B, width)
        logits = [head(features, count) for head in self.heads]
        targets = self._targets(batch.views[:2])
        terms = [
            self._loss(after.chunk(count), target, progress) for (_, after), target in zip(logits, targets, strict=True)
        ]
        losses = torch.stack([term["loss"] for term in terms])
        if self.training and not self.self_labeling:
            self.head_losses.lerp_(losses.detach().to(self.head_losses.dtype), 0.02)  # about the last 50 steps
        before, after = logits[self.best]
        mean = {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}
        sizes = {
            f"gradient_{place}": gradient_size(mean["loss"], one, 1 / len(self.heads))
            for place, one in (("before", before), ("after", after))
        }
        return mean | spreads(before, after) | sizes

    def after_step(self, progress: float) -> None:
        """The teacher follows."""
        if self.teacher is not None:
            self.teacher.follow(self.backbone, self.heads, momentum=cosine(progress, self.momentum, 1.0))

    @torch.no_grad()
    def _targets(self, views: Sequence[Tensor]) -> list[Sequence[Tensor] | None]:
        """Each head's logits of the global views by the teacher."""
        if self.teacher is None:
            return [None] * len(self.heads)
        backbone, heads = self.teacher.networks
        features = features_of(backbone, views)
        return [head(features, 2)[1].chunk(2) for head in cast(nn.ModuleList, heads)]

    def _loss(self, views: Sequence[Tensor], target: Sequence[Tensor] | None, progress: float) -> dict[str, Tensor]:
        if self.self_labeling:
            with torch.no_grad():
                told = multi_crop_loss(views, **self.weights)
            found = self_labeling_loss(views, quantile=cosine(progress, *self.quantile), group=self.group)
            return found | {name: told[name] for name in ("consistency", "sharpness", "diversity")}
        if target is not None:
            return teacher_loss(target, views, **self.weights)
        return multi_crop_loss(views, **self.weights)

    @property
    def best(self) -> int:
        """Place of the head with the lowest loss of late."""
        return int(self.head_losses.argmin())

    def encoder(self) -> Any:
        """The teacher's backbone where there is one."""
        return self.backbone if self.teacher is None else self.teacher.networks[0]

    def embed(self, features: Tensor) -> Tensor:
        """The best head's logits after the batch norm, (B, C); the teacher's where there is one."""
        heads = self.heads if self.teacher is None else cast(nn.ModuleList, self.teacher.networks[1])
        return heads[self.best](features)[1]

    def classify(self, features: Tensor) -> Tensor:
        """Class probabilities (B, C) by the best head."""
        return self.embed(features).float().softmax(1)
