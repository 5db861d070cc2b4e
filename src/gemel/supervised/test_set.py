"""Judging heads on a test set: one pass over its inference crops, each image counted once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gemel.data.batches import InferenceLoader, default_workers
from gemel.device import device
from gemel.distributed import joined_rows, rank, world_size
from gemel.errors import UserError
from gemel.metrics.classification import label_rank, mean_per_class_accuracy
from gemel.supervised.images import Labelled

Heads = Callable[[Tensor], Sequence[Tensor]]
"""uint8 images (B, 3, S, S) to each head's logits (B, C)"""

BATCH = 256
"""images of a forward pass"""


class Judge:
    """The labelled images that heads are judged by.

    Args:
        images: the test set; unreadable images are skipped.
        facts: as in backbone.json: size, views.
    """

    def __init__(self, images: Labelled, facts: Mapping[str, Any]) -> None:
        self.images = images
        # Of several processes each sees a contiguous share.
        first, last = (len(images) * part // world_size() for part in (rank(), rank() + 1))
        self._loader = InferenceLoader(
            images.source,
            size=int(facts["size"]),
            glyph=facts["views"] == "glyph",
            whole=facts.get("crop") == "whole",
            batch_size=BATCH,
            workers=default_workers(images.source),
            indices=images.indices[first:last].tolist(),
        )

    def scores(self, heads: Heads, count: int, classes: int) -> list[dict[str, float]]:
        """Return metrics of each head: top1, top5 (from five classes on), mean_per_class in 0..1; judged: images.

        Args:
            heads: called on this process's share of the images.
            count: of heads.
            classes: that they tell apart.

        Raises:
            UserError: no image can be read.
        """
        labels = torch.from_numpy(self.images.labels)
        found = [torch.zeros(0, 1 + 2 * count, dtype=torch.int64, device=device())]
        for views, index in self._loader:
            rows = torch.from_numpy(np.searchsorted(self.images.indices, index.numpy()))
            own = labels[rows].to(device())
            # the image's row, and by each head the rank of its label and the predicted class: (b, 1 + 2 heads)
            columns = [rows.to(device())]
            for logits in heads(views.to(device())):
                columns += [label_rank(logits, own), logits.argmax(1)]
            found.append(torch.stack(columns, 1))
        rows, *columns = joined_rows(torch.cat(found).cpu()).unbind(1)
        if not len(rows):
            raise UserError(f"none of the {len(labels)} labelled images of {self.images.source.name} can be read")
        heads_columns = zip(columns[::2], columns[1::2], strict=True)
        return [_metrics(ranks, predicted, labels[rows], classes) for ranks, predicted in heads_columns]


def _metrics(ranks: Tensor, predicted: Tensor, labels: Tensor, classes: int) -> dict[str, float]:
    metrics = {"top1": (ranks < 1).double().mean().item()}
    if classes >= 5:
        metrics["top5"] = (ranks < 5).double().mean().item()
    return metrics | {"mean_per_class": mean_per_class_accuracy(predicted, labels), "judged": len(labels)}
