"""Partners among the nearest neighbours, found once; a predictor that starts late, and one of a constant rate."""

from typing import ClassVar

import torch
from shared_recipe import recipe
from torch import nn

from gemel.distributed import mean_over_processes
from gemel.methods.base import Group, Method


class Neighbours(Method):
    """Pull an image's embedding towards its neighbour's.

    Args:
        k: neighbours
    """

    recipes: ClassVar = {"mine": recipe(views={"global_count": 1})}

    def __init__(self, backbone, *, k: int = 3) -> None:
        super().__init__(backbone)
        self.late, self.steady = nn.Linear(backbone.width, 4), nn.Linear(4, 4)
        self.k = k
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def before_stage(self, name, embed):
        features = embed().features.double()
        self.partners = torch.cdist(features, features).topk(self.k + 1, largest=False).indices[:, 1:]

    def before_step(self, embed, progress):
        self.steps += 1

    def forward(self, batch, progress):
        one, two = (self.steady(self.late(self.backbone(views[0]))) for views in (batch.views, batch.partners))
        spread = mean_over_processes(one.square().mean())
        return {"loss": mean_over_processes((one - two).square().mean()) + (spread - 1).square(), "spread": spread}

    def parameter_groups(self):
        return [
            Group(list(self.backbone.parameters()), True, rate=0.5),
            Group(list(self.late.parameters()), True, starts=0.5),
            Group(list(self.steady.parameters()), False, schedule="constant"),
        ]
