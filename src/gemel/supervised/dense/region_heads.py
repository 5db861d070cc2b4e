"""Boxes, classes and masks of regions: Detectron2's losses in training, its detections at test."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, l1_loss
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import roi_align

from gemel.methods.parts.precision import widened
from gemel.supervised.dense.proposals import Sampler
from gemel.supervised.dense.regions import Maps, Regions

THRESHOLD, SUPPRESSED, MOST = 0.05, 0.5, 100
"""at test: lowest score, IoU from which the lower of two boxes of a class goes, detections of an image"""


class Target(NamedTuple):
    """What an image shows, in training."""

    boxes: Tensor
    """(n, 4) float: x0, y0, x1, y1 in pixels of the image as the network sees it"""
    classes: Tensor
    """(n,), from 0"""
    masks: Tensor | None
    """(n, H, W) bool, where they are learned"""
    key: int
    """random seed of the sampling"""


class Found(NamedTuple):
    """Detections in an image, the likeliest first."""

    boxes: Tensor
    """(n, 4): x0, y0, x1, y1 in pixels of the image as the network sees it"""
    scores: Tensor
    """(n,) in 0..1"""
    classes: Tensor
    """(n,), from 0"""
    masks: Tensor | None
    """(n, M, M): probability of the object at M x M points of the box"""


class Sums(NamedTuple):
    """Losses of a batch as sums, and what each is divided by, over all processes."""

    sums: Tensor
    """(terms,)"""
    counts: Tensor
    """(terms,)"""


class RegionHeads(RoIHeads):
    """Classes, boxes and masks of regions.

    Args:
        regions: gives the regions' vectors.
        classes: without the background.
        sampled: regions of an image in training; at most a quarter of them show an object.
        masks: whether masks are made too.
    """

    def __init__(self, regions: Regions, classes: int, *, sampled: int, masks: bool) -> None:
        predictor = FastRCNNPredictor(regions.width, classes + 1)  # class 0 is the background
        for layer, deviation in ((predictor.cls_score, 0.01), (predictor.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)
        weights = (10.0, 10.0, 5.0, 5.0)
        super().__init__(None, None, predictor, 0.5, 0.5, sampled, 0.25, weights, THRESHOLD, SUPPRESSED, MOST)
        self.regions, self.masks = regions, masks
        self.sampler = self.fg_bg_sampler = Sampler(sampled, 0.25)

    def losses(self, maps: Maps, proposals: list[Tensor], targets: Sequence[Target]) -> Sums:
        """Return the sums of: cross entropy, L1 of the boxes, binary cross entropy of the masks' pixels.

        The first two are divided by the number of regions, the last by the number of the positive ones' pixels.
        """
        given = [{"boxes": one.boxes, "labels": one.classes + 1} for one in targets]
        proposals, matched, labels, aims = self.select_training_samples(proposals, given)
        vectors, shared = self.regions.vectors(maps, proposals)
        logits, deltas = (widened(one) for one in self.box_predictor(vectors))
        label, positive = torch.cat(labels), torch.cat(labels) > 0
        own = deltas.view(len(deltas), -1, 4)[positive.nonzero()[:, 0], label[positive]]
        entropy = cross_entropy(logits, label, reduction="sum")
        distance = l1_loss(own, torch.cat(aims)[positive], reduction="sum")
        sums, counts = [entropy, distance], [len(label)] * 2
        if self.masks:
            chosen = [one > 0 for one in labels]
            boxes, rows = (
                [part[one] for part, one in zip(parts, chosen, strict=True)] for parts in (proposals, matched)
            )
            found = widened(self.regions.mask_logits(maps, boxes, None if shared is None else shared[positive]))
            own = found[torch.arange(len(found), device=found.device), label[positive]]
            aim = mask_targets(targets, boxes, rows, found.shape[-1]).to(own)
            sums.append(binary_cross_entropy_with_logits(own, aim, reduction="sum"))
            counts.append(aim.numel())
        return Sums(torch.stack(sums), torch.tensor(counts, device=label.device))

    def detections(self, maps: Maps, proposals: list[Tensor], sizes: list[tuple[int, int]]) -> list[Found]:
        """Return what is found in each image."""
        logits, deltas = (widened(one) for one in self.box_predictor(self.regions.vectors(maps, proposals)[0]))
        boxes, scores, labels = self.postprocess_detections(logits, deltas, proposals, sizes)
        masks: list[Tensor | None] = [None] * len(boxes)
        if self.masks:
            shares = widened(self.regions.mask_logits(maps, boxes, None)).sigmoid()
            own = shares[torch.arange(len(shares), device=shares.device), torch.cat(labels)]
            masks = list(own.split([len(one) for one in boxes]))
        return [Found(b, s, c - 1, m) for b, s, c, m in zip(boxes, scores, labels, masks, strict=True)]


def mask_targets(targets: Sequence[Target], boxes: Sequence[Tensor], rows: Sequence[Tensor], side: int) -> Tensor:
    """Return what masks should be, (R, side, side) bool: the object's mask in each box, aligned, from one half on.

    Args:
        targets: of each image.
        boxes: of each image, (r, 4).
        rows: of each image, (r,): which of its objects each box is of.
        side: points along a side.
    """
    found: list[Tensor] = []
    for one, own, row in zip(targets, boxes, rows, strict=True):
        if not len(own) or one.masks is None:
            found.append(torch.zeros(0, side, side, dtype=torch.bool, device=own.device))
            continue
        indexed = torch.cat([row[:, None].to(own), own], 1)
        pooled = roi_align(one.masks[:, None].to(own), indexed, side, 1.0, 0, aligned=True)
        found.append(pooled[:, 0] >= 0.5)
    return torch.cat(found)
