"""k-means before each epoch, labels in a buffer, a top layer made anew, and an order of its own."""

from typing import ClassVar

import torch
from shared_recipe import recipe
from torch.nn.functional import cross_entropy

from gemel.distributed import mean_over_processes
from gemel.methods.base import Method


class Clusters(Method):
    """Predict the cluster that k-means found for each image before the epoch.

    Args:
        clusters: K
    """

    recipes: ClassVar = {"mine": recipe(views={"global_count": 1})}

    def __init__(self, backbone, *, clusters: int = 3) -> None:
        super().__init__(backbone)
        self.top = torch.nn.Linear(backbone.width, clusters)
        self._fresh = False

    def attach(self, images):
        self.register_buffer("labels", torch.zeros(images, dtype=torch.int64))

    def before_epoch(self, embed, progress):
        found = embed()
        assert bool(found.readable.all())
        rows = found.features.double()
        centres = rows[torch.randperm(len(rows))[: self.top.out_features]]  # drawn alike on every process
        for _ in range(5):
            labels = torch.cdist(rows, centres).argmin(1)
            centres = torch.stack([rows[labels == one].mean(0).nan_to_num() for one in range(len(centres))])
        self.labels.copy_(labels)
        torch.nn.init.normal_(self.top.weight, std=0.1)
        torch.nn.init.zeros_(self.top.bias)
        self._fresh = True

    def renewed(self):
        fresh, self._fresh = self._fresh, False
        return list(self.top.parameters()) if fresh else []

    def order(self, epoch):
        """Every cluster as often as the others."""
        images = len(self.labels)
        sizes = torch.bincount(self.labels, minlength=self.top.out_features)[self.labels.cpu()]
        return torch.multinomial(1 / sizes.double(), images, replacement=True)

    def forward(self, batch, progress):
        logits = self.top(self.backbone(batch.views[0]))
        return {"loss": mean_over_processes(cross_entropy(logits, self.labels[batch.index]))}
