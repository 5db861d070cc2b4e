"""IIC: as much information as possible between the classes of an image and of its transforms."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from gemel.backbones.base import features_of
from gemel.data.plan import Batch
from gemel.distributed import mean_over_processes
from gemel.errors import UserError
from gemel.methods.base import Embed, Method
from gemel.methods.parts.best_head import note_losses, of_best
from gemel.methods.parts.counter import Counter
from gemel.methods.parts.cross_correlation import check_pair
from gemel.methods.parts.precision import exact_products, widened
from gemel.methods.parts.recipes import changed, small
from gemel.settings.recipes import AdamOptimizer, AtLeastTwo, HeadCount, PhotoViews, Recipe

EPSILON = 2.0**-52
"""least probability, whatever the precision"""

Turn = Literal["A", "B", "AB"]


def iic_loss(one: Tensor, two: Tensor, *, lamb: float = 1.0) -> dict[str, Tensor]:
    r"""Return L = -Σ_cd P_cd [log P_cd - λ log P_c - λ log P_d], P = ½ (J + Jᵀ), J = 1/n Σ_i p_i q_iᵀ.

    p and q are the softmaxes; the mean is over the global batch. Marginals are summed first, then cells and marginals
    below 2⁻⁵² become constants of that value. Source: arXiv 1807.06653 and its released code.

    Args:
        one: logits of the images, (n, C), this process's rows.
        two: logits of their transforms, (n, C).
        lamb: λ; above 1 it asks for more equal classes.

    Returns:
        loss, and information, that of P, 0 to log C: the loss is its negative where λ is 1.

    Raises:
        ValueError: the shapes differ or are not (n, C).
    """
    check_pair(one, two)
    with exact_products(one.device):
        p, q = (widened(logits).softmax(1) for logits in (one, two))
        joint = mean_over_processes(p.T @ q / len(p))
        joint = (joint + joint.T) / 2
        joint = joint / joint.sum()
        rows, columns = _bounded(joint.sum(1, keepdim=True)), _bounded(joint.sum(0, keepdim=True))
        joint = _bounded(joint)
        own, apart = (joint * joint.log()).sum(), (joint * (rows.log() + columns.log())).sum()
    return {"loss": lamb * apart - own, "information": (own - apart).detach()}


def _bounded(values: Tensor) -> Tensor:
    return values.where(values >= EPSILON, torch.full_like(values, EPSILON))


class Iic(Method):
    r"""Make the classes of an image tell those of its transforms (https://arxiv.org/abs/1807.06653).

    L = -Σ_cd P_cd [log P_cd - λ log P_c - λ log P_d],   P = 1/n Σ_i p_i q_iᵀ, made symmetric

    The first view is the image, all others are its transforms: each makes a pair with the first. Two sets of heads on
    one network: A over-clusters, B finds the classes; they are trained in turns of epochs. Of B, the head of the lowest
    recent loss gives the classes: the released commands take the one that is best by the labels.

    Args:
        classes: C of the heads B
        overclasses: classes of the heads A
        heads: number of heads in each set, whose losses are averaged
        lamb: λ
        turns: what is trained in the epochs, again and again: A, B, or AB, both
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "cifar10": Recipe(
            source="command 640 of the released code: ACC 61.7 (mean 57.6) on CIFAR-10 by the paper; its network has "
            "no running statistics, images of all splits in one order, and colours as given",
            views=PhotoViews(
                global_count=4, scale=((0.39, 0.39), (0.39, 0.39)), ratio=(1, 1), interpolation="bilinear",
                flip=(0, 0.5), jitter=(0, 1), saturation=0.4, hue=0.125, gray=1, blur=0, solarize=0,
            ),
            backbone={"name": "resnet34", "stem": "small", "in_channels": 2},
            image_size=32,
            epochs=2000,
            batch_size=220,
            images=60_000,
            optimizer=AdamOptimizer(lr=1.1636e-4, weight_decay=0.0, warmup_epochs=0, final=1.0),  # 1e-4 at 220
            method={"classes": 10, "overclasses": 70},
        ),
        "small": small({"turns": ("AB",)}, views=changed("byol", blur=0, solarize=0)),
    }  # fmt: skip
    title = "IIC"
    terms: ClassVar[Mapping[str, str]] = {
        "information": "between the classes of an image and of its transforms; at most log C",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "one_class": "raise --method.lamb a little above 1, or take larger batches",
        "few_classes": "raise --method.lamb a little above 1, or take larger batches",
    }
    protocols: ClassVar[Mapping[str, str]] = {"finetune": "twist"}
    small: ClassVar[Mapping[str, Any]] = {"classes": 4, "overclasses": 6, "heads": 2}

    def __init__(
        self,
        backbone: Any,
        *,
        classes: AtLeastTwo = 10,
        overclasses: AtLeastTwo = 70,
        heads: HeadCount = 5,
        lamb: NonNegativeFloat = 1.0,
        turns: Annotated[tuple[Turn, ...], Field(min_length=1, max_length=100)] = ("A", "B", "B"),
    ) -> None:
        super().__init__(backbone)
        self.lamb, self.turns = lamb, turns
        self.over = nn.ModuleList(nn.Linear(backbone.width, overclasses) for _ in range(heads))
        self.heads = nn.ModuleList(nn.Linear(backbone.width, classes) for _ in range(heads))
        self.epochs = Counter()
        self.register_buffer("head_losses", torch.zeros(heads))
        self.head_losses: Tensor

    def before_epoch(self, embed: Embed, progress: float) -> None:
        """Count the epochs: they take turns."""
        self.epochs.value += 1

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss of the heads whose turn it is, and the information of the classes.

        The other heads stay in the graph with a weight of 0: processes agree on which parameters have a gradient.

        Raises:
            UserError: there is one view only.
        """
        if len(batch.views) < 2:
            raise UserError("Iic takes two or more views of an image; give --views.global_count 2")
        base = self.backbone(batch.views[0])
        moved = features_of(self.backbone, batch.views[1:])  # (R·n, width)
        turn = self.turns[max(0, self.epochs.value - 1) % len(self.turns)]
        over, own = (self._of(heads, base, moved) for heads in (self.over, self.heads))
        if self.training and "B" in turn:
            note_losses(self.head_losses, own["losses"])
        loss = ("A" in turn) * over["losses"].mean() + ("B" in turn) * own["losses"].mean()
        return {"loss": loss, "information": own["information"]}

    def _of(self, heads: nn.ModuleList, base: Tensor, moved: Tensor) -> dict[str, Tensor]:
        """Return each head's loss of all pairs of an image and one of its transforms, and their mean information."""
        repeats = len(moved) // len(base)
        terms = [iic_loss(head(base).repeat(repeats, 1), head(moved), lamb=self.lamb) for head in heads]
        losses, shared = (torch.stack([one[name] for one in terms]) for name in ("loss", "information"))
        return {"losses": losses, "information": shared.mean()}

    def embed(self, features: Tensor) -> Tensor:
        """Return the logits of the best head of B, (B, C)."""
        return of_best([head(features) for head in self.heads], self.head_losses)

    def classify(self, features: Tensor) -> Tensor:
        """Return class probabilities (B, C) by the best head of B."""
        return self.embed(features).float().softmax(1)
