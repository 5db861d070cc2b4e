"""SwAV: predict the balanced assignment of one view to prototypes from the other views."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from gemel.backbones.base import features_of
from gemel.data.plan import Batch
from gemel.distributed import gather, mean_over_processes, rank, world_size
from gemel.methods.base import Group, Method, apart
from gemel.methods.parts.contrast import unit
from gemel.methods.parts.heads import mlp
from gemel.methods.parts.information import entropy
from gemel.methods.parts.precision import exact_products, widened
from gemel.methods.parts.recent import Recent
from gemel.methods.parts.recipes import RESNET50, changed, imagenet, small, solo, solo_lars
from gemel.methods.parts.sinkhorn import Assignment, assignment
from gemel.methods.parts.swapped import check_views, swapped_cross_entropy
from gemel.settings.recipes import AtLeastTwo, LarsOptimizer, Probability, Recipe, Widths


def swav_loss(
    scores: Sequence[Tensor], codes: Sequence[Tensor], *, temperature: float = 0.1, entropies: Tensor | None = None
) -> dict[str, Tensor]:
    r"""Return L = ½ Σ_{c<2} 1/(V-1) Σ_{v≠c} -1/N Σ_i <Q^c_i, log softmax(s^v_i / τ)>.

    Source: arXiv 2006.09882, equations 1 and 2, and its released code for more than two views.

    Args:
        scores: s of V >= 2 views with the prototypes, (n, K) each, this process's rows, the two global views first.
        codes: Q of the two global views, (n, K) each, rows of sum 1; they take no gradient.
        temperature: τ, above 0.
        entropies: of the codes' rows, in any shape, where they are known; else they are computed.

    Returns:
        loss, and entropy, the mean entropy of the codes, 0..log K.

    Raises:
        ValueError: the shapes do not fit, or τ is not positive.
    """
    check_views(scores, codes)
    if temperature <= 0:
        raise ValueError(f"a temperature above 0 is needed, not {temperature}")
    with exact_products(scores[0].device):
        targets = [widened(code.detach()) for code in codes]
        loss = swapped_cross_entropy(targets, scores, temperature)
        if entropies is None:
            tiny = torch.finfo(targets[0].dtype).tiny
            entropies = torch.stack([entropy(code, code.clamp_min(tiny).log()) for code in targets])
        loss, mean = mean_over_processes(torch.stack([loss, entropies.mean()]))
    return {"loss": loss, "entropy": mean}


_STD = (0.228, 0.224, 0.225)
"""of the released code, in which the first is not ImageNet's 0.229"""

_LARS = LarsOptimizer(lr=0.3, weight_decay=1e-6, warmup_start=1 / 16, warmup_inclusive=True, flavour="L4")


def _official(
    source: str, epochs: int, *, optimizer: LarsOptimizer = _LARS, batch_size: int = 4096, **others: Any
) -> Recipe:
    method = {"freeze": 1 / epochs, **others.pop("method", {})}
    views = changed("swav", std=_STD, **others.pop("views", {}))
    return imagenet(
        f"released code of arXiv 2006.09882: linear top-1 {source} on ImageNet", optimizer, epochs=epochs,
        batch_size=batch_size, views=views, method=method, backbone=others.get("backbone", RESNET50),
    )  # fmt: skip


def _batch256(source: str, epochs: int) -> Recipe:
    optimizer = LarsOptimizer(lr=0.6, weight_decay=1e-6, warmup_epochs=0, flavour="L4")
    method = {"queue": 3840, "queue_starts": 15 / epochs}
    return _official(source, epochs, optimizer=optimizer, batch_size=256, method=method)


def _solo(epochs: int) -> dict[str, Any]:
    return {
        "projector": (2048, 128), "queue": 3840, "queue_starts": 50 / epochs, "freeze": 2 / epochs, "decay": "matrices"
    }  # fmt: skip


RECIPES: Mapping[str, Recipe] = {
    "resnet50": _official("75.3", 800),
    "resnet50_400ep": _official("74.6", 400),
    "resnet50_200ep": _official("73.9", 200),
    "resnet50_100ep": _official("72.1", 100),
    "resnet50_two_views": _official("70.1 with two views", 400, views={"scale": (0.08, 1.0), "local_count": 0}),
    "resnet50_batch256": _batch256("74.3 with a queue", 400),
    "resnet50_batch256_200ep": _batch256("72.7 with a queue", 200),
    "resnet50w2": _official(
        "77.3, every channel doubled (94 M)", 400, views={"local_count": 4},
        backbone={"name": "resnet50w2"}, method={"projector": (8192, 128)},
    ),
    **solo(
        "swav", (89.17, 64.88, 74.04), solo_lars(0.6, 1e-6), views="solo_cifar_symmetric", method=_solo(1000),
        note="its prototypes are normalised by their parametrisation, not after each step",
        imagenet100={"method": _solo(400)},
    ),
    "small": small({"projector": (512, 64), "prototypes": 128, "freeze": 0.05}),
}  # fmt: skip


class Swav(Method):
    r"""Predict the balanced assignment of one view to prototypes from the other views (https://arxiv.org/abs/2006.09882).

    L = ½ Σ_{c<2} 1/(V-1) Σ_{v≠c} -1/N Σ_i <Q^c_i, log softmax(s^v_i / τ)>,   Q = Sinkhorn(s),   s = ẑ Pᵀ

    Views of one size go through the backbone in one pass, all views through the head together. The prototypes are set
    to length 1 before every step. A queue of earlier embeddings, once it is full, joins small batches' assignment.

    Args:
        prototypes: K
        projector: widths of the projector's layers
        temperature: τ
        epsilon: ε of the assignment; smaller: harder codes, which also help against one code for all
        iterations: of Sinkhorn's algorithm
        queue: earlier embeddings of each global view that join the assignment; 0: none
        queue_starts: share of the run before the queue begins to fill
        freeze: share of the run before the prototypes learn
        decay: all: biases and norms decay and are adapted by LARS too, as released; matrices: they are not
    """

    recipes: ClassVar[Mapping[str, Recipe]] = RECIPES
    title = "SwAV"
    terms: ClassVar[Mapping[str, str]] = {
        "entropy": "mean entropy of an image's codes; log K where every image gets the same code",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "loss_flat": "lower --method.epsilon (harder codes), raise --method.freeze, or take gentler views",
        "same_embeddings": "lower --method.epsilon (harder codes), raise --method.freeze, or take gentler views",
    }
    small: ClassVar[Mapping[str, Any]] = {"prototypes": 6, "projector": (16, 8), "queue": 24}

    def __init__(
        self,
        backbone: Any,
        *,
        prototypes: AtLeastTwo = 3000,
        projector: Widths = (2048, 128),
        temperature: PositiveFloat = 0.1,
        epsilon: PositiveFloat = 0.05,
        iterations: Annotated[int, Field(ge=1, le=1000)] = 3,
        queue: NonNegativeInt = 0,
        queue_starts: Probability = 0.0,
        freeze: Probability = 0.0,
        decay: Literal["all", "matrices"] = "all",
    ) -> None:
        super().__init__(backbone)
        self.temperature = temperature
        self.sinkhorn: dict[str, Any] = {"epsilon": epsilon, "iterations": iterations}
        self.queue_starts, self.freeze, self.decay = queue_starts, freeze, decay
        self.projector = mlp(backbone.width, *projector)
        self.prototypes = nn.Linear(projector[-1], prototypes, bias=False)
        self.queue = Recent(2, queue, projector[-1]) if queue else None
        self._newest = torch.zeros(2, 0, projector[-1])

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its terms."""
        if self.training:
            with torch.no_grad():
                self.prototypes.weight.copy_(normalize(self.prototypes.weight, dim=1))
        rows = unit(self.projector(features_of(self.backbone, batch.views)))  # (V·B, D)
        with exact_products(rows.device):
            scores = linear(rows, widened(self.prototypes.weight)).chunk(len(batch.views))
        embeddings = torch.stack(rows.detach().chunk(len(batch.views))[:2])
        self._newest = gather(embeddings.transpose(0, 1)).transpose(0, 1)  # (2, N, D)
        assigned = [self._assign(view, one.detach()) for view, one in enumerate(scores[:2])]
        codes, entropies = zip(*assigned, strict=True)
        return swav_loss(scores, codes, temperature=self.temperature, entropies=torch.stack(entropies))

    @torch.no_grad()
    def _assign(self, view: int, scores: Tensor) -> Assignment:
        """Return the codes of a global view, assigned together with this process's share of the queue."""
        if self.queue is None or not self.queue.is_full:
            return assignment(scores, **self.sinkhorn)
        earlier = self.queue.rows[view].tensor_split(world_size())[rank()]
        with exact_products(scores.device):
            joined = torch.cat([linear(earlier.to(scores), self.prototypes.weight.to(scores)), scores])
        return Assignment(*(one[len(earlier) :] for one in assignment(joined, **self.sinkhorn)))

    def after_step(self, progress: float) -> None:
        """Let the step's embeddings follow into the queue."""
        if self.queue is not None and progress >= self.queue_starts:
            self.queue.push(self._newest)

    def embed(self, features: Tensor) -> Tensor:
        """Return the normalised projections, (B, D)."""
        return unit(self.projector(features))

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Return whether a parameter decays, and is adapted."""
        return self.decay == "all" or super().decays(name, parameter)

    def parameter_groups(self) -> list[Group]:
        """Return the prototypes apart, for their later start."""
        return apart(super().parameter_groups(), self.prototypes.parameters(), starts=self.freeze)
