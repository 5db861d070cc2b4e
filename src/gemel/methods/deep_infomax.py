"""Deep InfoMax: let a vector of the whole image tell its places from those of other images."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn

from gemel.data.plan import Batch
from gemel.distributed import mean_over_processes
from gemel.errors import UserError
from gemel.methods.base import Method
from gemel.methods.parts.infomax_losses import Measure, deep_infomax_loss
from gemel.methods.parts.infomax_networks import Penalty, PlaceEmbedding, PriorMatch
from gemel.methods.parts.noise import noise_for
from gemel.methods.parts.recipes import changed, small
from gemel.settings.recipes import AdamOptimizer, Count, PhotoViews, Recipe, Widths

__all__ = ["DeepInfomax", "deep_infomax_loss"]


class DeepInfomax(Method):
    r"""Let a code of the whole image tell its places from those of other images (https://arxiv.org/abs/1808.06670).

    L = β (E₋ - E₊) of scores u_ijl = <g(code_i), h(map_j)_l>  +  γ L_encoder + L_discriminator + penalty

    The map is one of the backbone's stages, the code a linear layer on its features; g and h embed them. A
    discriminator asks that the sigmoid of the codes be uniform: its own loss, and the encoder's against it, are
    minimised in the same step, each with the other fixed.

    Args:
        measure: which bound of the information
        code: width of the code
        units: width of the embeddings; the released code has 1024 for nce
        map_stage: which of the backbone's maps is looked at, 0 the finest; negative numbers count from the coarsest
        local_weight: β
        prior_weight: γ; 0: no prior, and no discriminator
        prior_hidden: widths of the discriminator's hidden layers
        penalty: of the discriminator's gradient; released: of one image of the batch alone, a mistake of the code
    """

    recipes: ClassVar[Mapping[str, Recipe]] = {
        "cifar10": Recipe(
            source="the released code of arXiv 1808.06670, DIM(L) with JSD: its encoder is three convolutions of "
            "stride 2 and a layer of 1024; the code has an optimiser for each network, of the same rate",
            views=PhotoViews(global_count=1, kinds="plain"),
            backbone={"name": "convnet", "widths": (64, 128, 256), "strides": (2, 2, 2)},
            image_size=32,
            epochs=1000,
            batch_size=64,
            images=50_000,
            optimizer=AdamOptimizer(lr=4e-4, weight_decay=0.0, warmup_epochs=0, final=1.0),  # 1e-4 at 64
            method={"map_stage": 1},
        ),
        "small": small(
            {"units": 256, "code": 64, "prior_hidden": (200, 50)}, views=changed("byol", global_count=1, blur=0)
        ),
    }
    title = "Deep InfoMax"
    terms: ClassVar[Mapping[str, str]] = {
        "positive": "worth of the scores between an image and its own places; rises as they are told",
        "negative": "the same of other images' places; falls as they are told",
        "encoder": "how well the discriminator tells codes from noise; log 2 where it can't",
        "discriminator": "its own loss; 2 log 2 where it can't",
        "penalty": "mean squared gradient of the discriminator",
    }
    advice: ClassVar[Mapping[str, str]] = {
        "low_rank": "raise --method.prior_weight, which spreads the codes, or train longer",
    }
    protocols: ClassVar[Mapping[str, str]] = {"finetune": "twist"}
    small: ClassVar[Mapping[str, Any]] = {"code": 8, "units": 16, "prior_hidden": (16, 8)}

    def __init__(
        self,
        backbone: Any,
        *,
        measure: Measure = "jsd",
        code: Count = 64,
        units: Count = 2048,
        map_stage: Annotated[int, Field(ge=-4, le=3)] = -2,
        local_weight: NonNegativeFloat = 1.0,
        prior_weight: NonNegativeFloat = 0.1,
        prior_hidden: Widths = (1000, 200),
        penalty: Penalty = "meant",
    ) -> None:
        super().__init__(backbone)
        self.measure: Measure = measure
        self.penalty: Penalty = penalty
        self.map_stage, self.local_weight, self.prior_weight = map_stage, local_weight, prior_weight
        channels = backbone.map_channels()
        if not -len(channels) <= map_stage < len(channels):
            raise UserError(f"--method.map_stage {map_stage}: the backbone has {len(channels)} maps; 0 is the first")
        self.code = nn.Linear(backbone.width, code)
        self.of_map = PlaceEmbedding(channels[map_stage], units)
        self.of_code = PlaceEmbedding(code, units)
        self.prior = PriorMatch(code, prior_hidden) if prior_weight else None

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the loss and its terms."""
        features, maps = self.backbone.with_maps(self.single(batch))
        codes = self.code(features)
        local = self.of_map(maps[self.map_stage]).flatten(2)  # (n, units, L)
        global_ = self.of_code(codes[:, :, None, None]).flatten(2)  # (n, units, 1)
        terms = deep_infomax_loss(local, global_, measure=self.measure)
        loss = self.local_weight * terms.pop("loss")
        if self.prior is not None:
            prior = self.prior(codes, noise_for(codes.detach().float()), self.penalty)
            terms |= {name: mean_over_processes(one) for name, one in prior.items()}
            loss = loss + self.prior_weight * terms["encoder"] + terms["discriminator"] + terms["penalty"]
        return terms | {"loss": loss}

    def embed(self, features: Tensor) -> Tensor:
        """Return the codes, (B, code)."""
        return self.code(features)
