"""Ten methods as lightly puts them together, as one method of gemel's, so that two tables can set both side by side.

    gemel pretrain digits --method benchmarks/lightly_methods.py --method.kind simclr

Heads, losses, memory banks and averages are lightly's, joined as in its examples; widths and temperatures are those of
gemel's recipe `small`; views, network, optimiser and evaluation are gemel's. lightly has no MoCo v3, no CMC and no
example of W-MSE. Its example of DenseCL keeps an average and takes the keys from the network itself: so does this.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from lightly.loss import (
    BarlowTwinsLoss,
    DINOLoss,
    NegativeCosineSimilarity,
    NTXentLoss,
    SwaVLoss,
    VICRegLoss,
    WMSELoss,
)
from lightly.models.modules.heads import (
    BarlowTwinsProjectionHead,
    BYOLPredictionHead,
    BYOLProjectionHead,
    DenseCLProjectionHead,
    DINOProjectionHead,
    MoCoProjectionHead,
    ProjectionHead,
    SimCLRProjectionHead,
    SimSiamPredictionHead,
    SimSiamProjectionHead,
    SwaVProjectionHead,
    SwaVPrototypes,
    VICRegProjectionHead,
)
from lightly.models.utils import deactivate_requires_grad, select_most_similar, update_momentum
from torch import Tensor, nn
from torch.nn.functional import normalize

from gemel import methods
from gemel.data.plan import Batch
from gemel.methods.base import Method
from gemel.methods.parts.recipes import small
from gemel.schedules import cosine
from gemel.settings.recipes import Recipe

Kind = Literal["barlow_twins", "byol", "densecl", "dino", "moco_v2", "simclr", "simsiam", "swav", "vicreg", "w_mse"]


class Heads(nn.Module, ABC):
    """What a method of lightly's has beside its backbone; made from the backbone and gemel's options."""

    @abstractmethod
    def loss(self, backbone: Any, views: Sequence[Tensor], progress: float) -> Tensor:
        """Return the loss of a batch; averages follow first, as in the examples."""

    def encoder(self, backbone: Any) -> Any:
        """Return the backbone that is kept."""
        return backbone


class BarlowTwins(Heads):
    def __init__(self, backbone: Any, *, projector: Sequence[int], lambda_param: float = 0.0051, **_: Any) -> None:
        super().__init__()
        self.head = BarlowTwinsProjectionHead(backbone.width, projector[0], projector[-1])
        self.criterion = BarlowTwinsLoss(lambda_param=lambda_param)

    def loss(self, backbone: Any, views: Sequence[Tensor], progress: float) -> Tensor:
        return self.criterion(*(self.head(backbone(view)) for view in views))


class VicReg(Heads):
    def __init__(self, backbone: Any, *, projector: Sequence[int], **_: Any) -> None:
        super().__init__()
        self.head = VICRegProjectionHead(backbone.width, projector[0], projector[-1], len(projector))
        self.criterion = VICRegLoss()

    def loss(self, backbone: Any, views: Sequence[Tensor], progress: float) -> Tensor:
        return self.criterion(*(self.head(backbone(view)) for view in views))


class SimClr(Heads):
    def __init__(self, backbone: Any, *, projector: Sequence[int], temperature: float = 0.1, **_: Any) -> None:
        super().__init__()
        self.head = SimCLRProjectionHead(backbone.width, *projector)
        self.criterion = NTXentLoss(temperature)

    def loss(self, backbone: Any, views: Sequence[Tensor], progress: float) -> Tensor:
        return self.criterion(*(self.head(backbone(view)) for view in views))


class WMse(Heads):
    def __init__(self, backbone: Any, *, projector: Sequence[int], whitening: int | None = 128, **_: Any) -> None:
        super().__init__()
        hidden, width = projector
        blocks = [(backbone.width, hidden, nn.BatchNorm1d(hidden), nn.ReLU(), True), (hidden, width, None, None)]
        self.head = ProjectionHead(blocks)
        self.criterion = WMSELoss(width, w_size=whitening or 128)

    def loss(self, backbone: Any, views: Sequence[Tensor], progress: float) -> Tensor:
        return self.criterion(self.head(torch.cat([backbone(view) for view in views])))


class SimSiam(Heads):
    def __init__(self, backbone: Any, *, projector: Sequence[int], predictor: int, **_: Any) -> None:
        super().__init__()
        self.head = SimSiamProjectionHead(backbone.width, projector[0], projector[-1])
        self.predictor = SimSiamPredictionHead(projector[-1], predictor, projector[-1])
        self.criterion = NegativeCosineSimilarity()

    def loss(self, backbone: Any, views: Sequence[Tensor], progress: float) -> Tensor:
        one, two = (self.head(backbone(view)) for view in views)
        pairs = ((one, two), (two, one))
        return sum(self.criterion(self.predictor(own), other.detach()) for own, other in pairs) / 2


class Swav(Heads):
    def __init__(self, backbone: Any, *, projector: Sequence[int], prototypes: int, **_: Any) -> None:
        super().__init__()
        self.head = SwaVProjectionHead(backbone.width, *projector)
        self.prototypes = SwaVPrototypes(projector[-1], prototypes)
        self.criterion = SwaVLoss()

    def loss(self, backbone: Any, views: Sequence[Tensor], progress: float) -> Tensor:
        self.prototypes.normalize()
        scores = [self.prototypes(normalize(self.head(backbone(view)), dim=1)) for view in views]
        return self.criterion(scores[:2], scores[2:])


class Averaged(Heads):
    """With a copy of backbone and heads that follows them.

    Args:
        backbone: of the student.
        heads: of the student.
        momentum: of the average, first and last.
    """

    def __init__(self, backbone: Any, heads: Sequence[nn.Module], momentum: tuple[float, float]) -> None:
        super().__init__()
        self.heads, self.momentum = nn.ModuleList(heads), momentum
        self.averages: Any = copy.deepcopy(nn.ModuleList([backbone, *heads]))
        deactivate_requires_grad(self.averages)

    def follow(self, backbone: Any, progress: float) -> None:
        """Take one step of the average."""
        for own, average in zip((backbone, *self.heads), self.averages, strict=True):
            update_momentum(own, average, m=cosine(progress, *self.momentum))


class Byol(Averaged):
    def __init__(
        self, backbone: Any, *, projector: Sequence[int], predictor: Sequence[int], momentum: float, **_: Any
    ) -> None:
        super().__init__(backbone, [BYOLProjectionHead(backbone.width, *projector)], (momentum, 1.0))
        self.predictor = BYOLPredictionHead(projector[-1], predictor[0], projector[-1])
        self.criterion = NegativeCosineSimilarity()

    def loss(self, backbone: Any, views: Sequence[Tensor], progress: float) -> Tensor:
        self.follow(backbone, progress)
        average, head = self.averages
        predictions = [self.predictor(self.heads[0](backbone(view))) for view in views]
        with torch.no_grad():
            targets = [head(average(view)) for view in views]
        return sum(self.criterion(*pair) for pair in zip(predictions, targets[::-1], strict=True)) / 2


class MocoV2(Averaged):
    def __init__(
        self, backbone: Any, *, projector: Sequence[int], queue: int, momentum: tuple[float, float],
        temperature: float = 0.2, **_: Any,
    ) -> None:  # fmt: skip
        super().__init__(backbone, [MoCoProjectionHead(backbone.width, *projector)], momentum)
        self.criterion = NTXentLoss(temperature, memory_bank_size=(queue, projector[-1]))

    def loss(self, backbone: Any, views: Sequence[Tensor], progress: float) -> Tensor:
        self.follow(backbone, progress)
        average, head = self.averages
        with torch.no_grad():
            key = head(average(views[1]))
        return self.criterion(self.heads[0](backbone(views[0])), key)


class Dino(Averaged):
    def __init__(
        self, backbone: Any, *, prototypes: int, hidden: int, bottleneck: int, momentum: float,
        teacher_temperature: tuple[float, float], **_: Any,
    ) -> None:  # fmt: skip
        head = DINOProjectionHead(backbone.width, hidden, bottleneck, prototypes)
        super().__init__(backbone, [head], (momentum, 1.0))
        first, last = teacher_temperature
        self.criterion = DINOLoss(prototypes, warmup_teacher_temp=first, teacher_temp=last)

    def loss(self, backbone: Any, views: Sequence[Tensor], progress: float) -> Tensor:
        self.follow(backbone, progress)
        average, head = self.averages
        with torch.no_grad():
            targets = [head(average(view)) for view in views[:2]]
        return self.criterion(targets, [self.heads[0](backbone(view)) for view in views])

    def encoder(self, backbone: Any) -> Any:
        return self.averages[0]


class DenseCl(Averaged):
    def __init__(
        self, backbone: Any, *, projector: Sequence[int], queue: int, momentum: tuple[float, float],
        temperature: float = 0.2, **_: Any,
    ) -> None:  # fmt: skip
        widths = (backbone.width, backbone.map_channels()[-1])
        super().__init__(backbone, [DenseCLProjectionHead(width, *projector) for width in widths], momentum)
        bank = (queue, projector[-1])
        self.criteria = nn.ModuleList(NTXentLoss(temperature, memory_bank_size=bank) for _ in range(2))

    def loss(self, backbone: Any, views: Sequence[Tensor], progress: float) -> Tensor:
        self.follow(backbone, progress)
        (query, query_local, query_map), (key, key_local, key_map) = (self._passed(backbone, one) for one in views)
        key_local = select_most_similar(query_map, key_map, key_local)
        dense = self.criteria[1](query_local.flatten(end_dim=1), key_local.flatten(end_dim=1))
        return (self.criteria[0](query, key) + dense) / 2

    def _passed(self, backbone: Any, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features, maps = backbone.with_maps(images)
        found = maps[-1].flatten(2).transpose(1, 2)  # (n, S, C)
        return self.heads[0](features), self.heads[1](found), found


HEADS: Mapping[Kind, type[Heads]] = {
    "barlow_twins": BarlowTwins,
    "byol": Byol,
    "densecl": DenseCl,
    "dino": Dino,
    "moco_v2": MocoV2,
    "simclr": SimClr,
    "simsiam": SimSiam,
    "swav": Swav,
    "vicreg": VicReg,
    "w_mse": WMse,
}


class Lightly(Method):
    """A method by lightly's heads and losses.

    Args:
        kind: gemel's name of the method; widths and temperatures are those of its recipe `small`
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "small": small({}, source="lightly 1.6's examples with the numbers of gemel's recipes of the same name")
    }

    def __init__(self, backbone: Any, *, kind: Kind = "simclr") -> None:
        super().__init__(backbone)
        self.heads = HEADS[kind](backbone, **methods.find(kind).recipes["small"].method)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss."""
        return {"loss": self.heads.loss(self.backbone, batch.views, progress).squeeze()}

    def encoder(self) -> Any:
        """Return the backbone that the examples evaluate."""
        return self.heads.encoder(self.backbone)
