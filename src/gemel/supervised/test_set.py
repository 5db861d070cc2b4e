"""Judging heads on a test set: one pass over its inference crops, each image counted once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gemel.data.batches import InferenceLoader, default_workers
from gemel.distributed import rank, world_size
from gemel.errors import UserError
from gemel.metrics.classification import label_rank, mean_per_class_accuracy
from gemel.supervised.images import Labelled

Scores = Callable[[Tensor], Sequence[Tensor]]
"""uint8 images (B, 3, S, S) to each head's logits (B, C)"""

BATCH = 256
"""images of a step of the pass"""


class Judge:
    """The labelled images that heads are judged by.

    Args:
        images: the test set; unreadable images are left out and counted.
        facts: as in backbone.json: size, views.
    """

    def __init__(self, images: Labelled, facts: Mapping[str, Any]) -> None:
        self.images = images
        # Of several processes each sees a contiguous share.
        first, last = (len(images) * part // world_size() for part in (rank(), rank() + 1))
        self._rows = {int(place): row for row, place in enumerate(images.places)}
        source = images.source
        self._loader = InferenceLoader(
            source,
            size=int(facts["size"]),
            glyph=facts["views"] == "glyph",
            batch_size=BATCH,
            workers=default_workers(source),
            indices=images.places[first:last].tolist(),
        )

    def scores(self, network: Scores, heads: int, device: torch.device) -> list[dict[str, float]]:
        """top1, top5 (from five classes on) and mean_per_class of each head, shares of 1; images they were taken of.

        Raises:
            UserError: no image can be read.
        """
        count = len(self.images)
        known = torch.from_numpy(self.images.labels).to(device)
        # label's place among the sorted scores, and predicted class, by the image's row: -1 where it was not seen
        places = torch.full((heads, count), -1, dtype=torch.int64, device=device)
        predicted = places.clone()
        classes = 0
        for views, index in self._loader:
            rows = torch.tensor([self._rows[place] for place in index.tolist()], device=device)
            for number, logits in enumerate(network(views)):
                classes = logits.shape[1]
                places[number, rows] = label_rank(logits, known[rows])
                predicted[number, rows] = logits.argmax(1)
        if world_size() > 1:
            counts = torch.tensor(classes, device=device)
            for one in (places, predicted, counts):  # each row was seen by one process; by the others it is -1
                dist.all_reduce(one, dist.ReduceOp.MAX)
            classes = int(counts)
        seen = (places[0] >= 0).cpu()
        if not seen.any():
            raise UserError(f"none of the {count} labelled images of {self.images.source.name} can be read")
        labels = known.cpu()[seen]
        both = zip(places.cpu(), predicted.cpu(), strict=True)
        return [_metrics(place[seen], own[seen], labels, classes) for place, own in both]


def _metrics(places: Tensor, predicted: Tensor, labels: Tensor, classes: int) -> dict[str, float]:
    metrics = {"top1": (places < 1).double().mean().item()}
    if classes >= 5:
        metrics["top5"] = (places < 5).double().mean().item()
    return metrics | {"mean_per_class": mean_per_class_accuracy(predicted, labels), "judged": len(labels)}
