"""Region proposals as Detectron2 makes them, of torchvision's parts: exact anchors, L1, sums in place of means."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from gemel.methods.parts.precision import widened

RATIOS = (0.5, 1.0, 2.0)
"""height to width of the anchors"""


class Anchors(nn.Module):
    """Anchors that are not rounded, at fixed strides; the first one of a map is centred at pixel (0, 0).

    torchvision's are rounded to whole pixels, and their stride is that of the padded image, which is another one where
    a side is no multiple of it.

    Args:
        sizes: of each map, square roots of the anchors' areas, pixels.
        strides: of each map, pixels.
    """

    def __init__(self, sizes: Sequence[Sequence[float]], strides: Sequence[int]) -> None:
        super().__init__()
        self.sizes, self.strides = [list(one) for one in sizes], list(strides)

    def num_anchors_per_location(self) -> list[int]:
        """Return the number of anchors at a position of each map."""
        return [len(RATIOS) * len(one) for one in self.sizes]

    def forward(self, images: ImageList, maps: list[Tensor]) -> list[Tensor]:
        """Return the same anchors for each image, (Σ H·W·A, 4): map by map, row by row, all of a position together."""
        found = torch.cat([self._of(*one) for one in zip(maps, self.sizes, self.strides, strict=True)])
        return [found] * len(images.image_sizes)

    def _of(self, one: Tensor, sizes: Sequence[float], stride: int) -> Tensor:
        kind: Any = {"device": one.device, "dtype": widened(one[:0]).dtype}
        sides = [(size / ratio**0.5, size * ratio**0.5) for size in sizes for ratio in RATIOS]  # width, height
        cell = torch.tensor([(-w / 2, -h / 2, w / 2, h / 2) for w, h in sides], dtype=torch.float32)  # (A, 4)
        y, x = (torch.arange(side, **kind) * stride for side in one.shape[-2:])
        down, across = torch.meshgrid(y, x, indexing="ij")
        shifts = torch.stack([across, down, across, down], -1).view(-1, 1, 4)
        return (shifts + cell.to(shifts)).view(-1, 4)


class Sampler:
    """Choose positives and negatives at random, each image by a generator of its own.

    torchvision's draws from the global generator: what is chosen then depends on how images are dealt to processes.

    Args:
        count: chosen of an image, at most.
        positive: share of the positives among them, at most.

    Attributes:
        keys: random seed of each image of the batch, set before the network runs.
    """

    def __init__(self, count: int, positive: float) -> None:
        self.count, self.positive = count, positive
        self.keys: Sequence[int] = ()

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return masks of the chosen positives and negatives of each image, (n,).

        Args:
            labels: of each image (n,): -1 ignored, 0 negative, above positive.
        """
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        for one, key in zip(labels, self.keys, strict=True):
            generator = torch.Generator().manual_seed(key)
            positive, negative = (which.nonzero()[:, 0] for which in (one >= 1, one == 0))
            most = min(len(positive), int(self.count * self.positive))
            least = min(len(negative), self.count - most)
            for indices, taken, masks in zip((positive, negative), (most, least), found, strict=True):
                chosen = torch.randperm(len(indices), generator=generator)[:taken].to(one.device)
                mask = torch.zeros(len(one), dtype=torch.uint8, device=one.device)
                mask[indices[chosen]] = 1
                masks.append(mask)
        return found


class _Head(RPNHead):
    """Its outputs are wide: boxes decoded in bfloat16 would be off by pixels."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        logits, deltas = super().forward(x)
        return [widened(one) for one in logits], [widened(one) for one in deltas]


class Proposals(RegionProposalNetwork):
    """Detectron2's region proposal network; losses are sums, which the caller divides.

    Args:
        anchors: of the maps.
        channels: of every map.
        sampled: anchors of an image that the loss is of; at most half of them positive.
        before: boxes kept of a map before non-maximum suppression, in training and at test.
        after: boxes kept of an image after it, likewise.
    """

    def __init__(
        self, anchors: Anchors, channels: int, *, sampled: int, before: tuple[int, int], after: tuple[int, int]
    ) -> None:
        names = ("training", "testing")
        count = anchors.num_anchors_per_location()[0]
        kept, passed = (dict(zip(names, one, strict=True)) for one in (before, after))
        super().__init__(anchors, _Head(channels, count), 0.7, 0.3, sampled, 0.5, kept, passed, 0.7)  # pyright: ignore[reportArgumentType]
        self.sampler = self.fg_bg_sampler = Sampler(sampled, 0.5)
        self.min_size = torch.finfo(torch.float32).tiny  # boxes without area go, as in Detectron2

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the sums of the cross entropy over the sampled anchors, and of L1 over the positive ones."""
        positive, negative = (torch.cat(masks) > 0 for masks in self.sampler(labels))
        sampled, target = positive | negative, torch.cat(labels)
        logits = objectness.flatten()[sampled]
        entropy = binary_cross_entropy_with_logits(logits, target[sampled].to(logits.dtype), reduction="sum")
        distance = l1_loss(pred_bbox_deltas[positive], torch.cat(regression_targets)[positive], reduction="sum")
        return entropy, distance
