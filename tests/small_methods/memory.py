"""A memory as long as the dataset, filled when the stage begins and written after each step."""

from typing import ClassVar

import torch
from shared_recipe import recipe
from torch.nn.functional import normalize

from gemel.distributed import joined_rows, mean_over_processes
from gemel.methods.base import Method


class Memory(Method):
    """Pull each image towards its own entry of a memory.

    Args:
        width: of the embeddings
    """

    recipes: ClassVar = {"mine": recipe(views={"global_count": 1})}

    def __init__(self, backbone, *, width: int = 4) -> None:
        super().__init__(backbone)
        self.head = torch.nn.Linear(backbone.width, width)
        self._written = None

    def attach(self, images):
        self.register_buffer("memory", torch.zeros(images, self.head.out_features))

    def before_stage(self, name, embed):
        found = embed(self.head, training=True)
        self.memory.copy_(normalize(found.features))

    def forward(self, batch, progress):
        (view,) = batch.views
        found = self.head(self.backbone(view))
        self._written = (batch.index, found.detach())
        target = self.memory[batch.index].to(found.dtype)
        return {"loss": mean_over_processes((found - target).square().mean())}

    def after_step(self, progress):
        index, found = (joined_rows(one) for one in self._written)
        noise = 0.01 * torch.randn(found.shape, dtype=torch.float64)  # the same on every process
        self.memory[index] = 0.5 * self.memory[index] + 0.5 * (found + noise.to(found)).to(self.memory.dtype)
