"""Probes while training: is the network learning or collapsing? Label-free first; with labels also scores."""

from typing import Any

import torch
from torch import Tensor, nn

from gemel.data.batches import InferenceLoader, draw_views
from gemel.data.plan import Plan, is_glyph
from gemel.engine.modes import evaluation_mode
from gemel.methods.base import Method
from gemel.metrics import clustering, collapse, neighbours
from gemel.samples import evenly_spread

SAMPLE = 1024
"""images that a probe looks at"""

RANKED = 256
"""of them, images whose singular values are computed: the time grows with the third power"""

PAIRS = 256
"""of them, images whose two views are compared"""


class Probe:
    """A fixed sample of the images, looked at in evaluation mode.

    Args:
        plan: what is trained on.
        normalise: from uint8 to the network's floats.

    Attributes:
        index: (n,) of the images in the source.
        classes: (n, C) probabilities that the newest probe found; None before, and without classes.
    """

    def __init__(self, plan: Plan, normalise: nn.Module) -> None:
        self.classes: Tensor | None = None
        count = len(plan.source)
        sample = evenly_spread(count, SAMPLE)
        crops = InferenceLoader(plan.source, size=plan.size, glyph=is_glyph(plan.views), indices=sample.tolist())
        parts = list(crops)
        self.normalise = normalise
        self.images = torch.cat([views for views, _ in parts])
        self.index = torch.cat([index for _, index in parts])
        labels = plan.source.labels
        self.labels = None if labels is None else torch.from_numpy(labels[self.index.numpy()])
        paired = self.index[:: max(1, len(self.index) // PAIRS)][:PAIRS].tolist()
        first, second = (draw_views(plan, epoch, paired).batch.views for epoch in (0, 1))
        # A method may take one view of an image: then a pair comes from two epochs.
        self.pairs = first[:2] if plan.views.global_count > 1 else [first[0], second[0]]

    @torch.no_grad()
    def measure(self, method: Method) -> dict[str, float]:
        """Columns of metrics.csv that are null on other rows."""
        with evaluation_mode(method):
            features, probabilities = self._look(method, self.images)
            self.classes = probabilities
            one, two = (self._look(method, view) for view in self.pairs)
        ranked = features[:: -(-len(features) // RANKED)]
        columns: dict[str, float] = {
            "embedding_std": collapse.spread(features),
            "rankme": collapse.rankme(ranked),
            "rankme_limit": min(ranked.shape),
            "probe_images": len(self.index),
            "pairs": len(one[0]),
            "agreement": collapse.pair_agreement(one[0], two[0]),
        }
        if probabilities is not None and one[1] is not None and two[1] is not None:
            columns |= {
                "classes_used": collapse.classes_used(probabilities),
                "classes": probabilities.shape[1],
                "class_entropy": collapse.class_entropy(probabilities),
                "classes_per_image": collapse.classes_per_image(probabilities),
                "class_agreement": collapse.class_agreement(one[1], two[1]),
            }
        return columns | self._scores(features, probabilities)

    def _look(self, method: Method, images: Tensor) -> tuple[Tensor, Tensor | None]:
        device = next(method.parameters()).device
        features: list[Tensor] = []
        probabilities: list[Tensor] = []
        for chunk in images.split(256):
            found: Any = method.encoder()(self.normalise(chunk.to(device)))
            features.append(found.float().cpu())
            classes = method.classify(found)
            if classes is not None:
                probabilities.append(classes.float().cpu())
        return torch.cat(features), torch.cat(probabilities) if probabilities else None

    def _scores(self, features: Tensor, probabilities: Tensor | None) -> dict[str, float]:
        if self.labels is None or int((self.labels >= 0).sum()) < 2:
            return {}
        known = self.labels >= 0
        k = min(20, int(known.sum()) - 1)
        votes = neighbours.knn_accuracy(
            features[known], features[known], self.labels[known], self.labels[known], k=k, leave_one_out=True
        )
        scores = {"knn": votes["top1"]}
        if probabilities is not None:
            found = clustering.clustering_scores(self.labels, probabilities.argmax(1))
            scores |= {"acc": found["acc"], "nmi": found["nmi"]}
        return scores
