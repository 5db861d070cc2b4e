"""Faster and Mask R-CNN on a ResNet, by pyramid (FPN) or by the fourth stage (C4), with Detectron2's numbers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from gemel.backbones.parts.stages import Stages, fourth_stage
from gemel.supervised.dense.proposals import Anchors, Proposals
from gemel.supervised.dense.region_heads import Found, RegionHeads, Sums, Target
from gemel.supervised.dense.regions import Maps, PyramidRegions, StageRegions

Kind = Literal["fpn", "c4"]

TERMS = ("proposal_class", "proposal_box", "class", "box", "mask")
"""of the loss, as `Sums` has them; without masks all but the last"""

C4_SIZES = (32.0, 64.0, 128.0, 256.0, 512.0)
"""anchors of the one map of C4, pixels"""

C4_MASK_CHANNELS = 256


class Detector(nn.Module, ABC):
    """A two-stage detector.

    Attributes:
        stages: of the backbone.
        proposals: of regions.
        heads: of what is in them.
        anchor_sizes: of each map, pixels.
        multiple: the sides of a batch are padded to multiples of this.
    """

    stages: Stages
    proposals: Proposals
    heads: RegionHeads
    anchor_sizes: list[list[float]]
    multiple: int

    @abstractmethod
    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """Return the maps by name that proposals are made on."""

    @abstractmethod
    def of_regions(self, maps: Sequence[Tensor]) -> Maps:
        """Return those that regions are taken from."""

    def forward(
        self, images: Tensor, sizes: list[tuple[int, int]], targets: Sequence[Target] | None = None
    ) -> Sums | list[Found]:
        """Return losses in training mode, else detections.

        Args:
            images: normalised (B, 3, H, W), each padded with zeros at its right and below.
            sizes: height and width of each.
            targets: in training.
        """
        maps = self.maps(images)
        listed = ImageList(images, sizes)
        if not self.training:
            boxes = self.proposals(listed, maps)[0]
            return self.heads.detections(self.of_regions(list(maps.values())), boxes, sizes)
        assert targets is not None
        for salt, sampler in enumerate((self.proposals.sampler, self.heads.sampler)):
            sampler.keys = [2 * one.key + salt for one in targets]
        given = [{"boxes": one.boxes, "labels": one.classes} for one in targets]
        boxes, terms = self.proposals(listed, maps, given)
        found = self.heads.losses(self.of_regions(list(maps.values())), boxes, targets)
        own = torch.stack([terms["loss_objectness"], terms["loss_rpn_box_reg"]])
        count = len(targets) * self.proposals.sampler.count  # also where fewer can be sampled
        return Sums(torch.cat([own, found.sums]), torch.cat([found.counts.new_full((2,), count), found.counts]))


class PyramidDetector(Detector):
    """Faster or Mask R-CNN on a feature pyramid, with batch norms in the pyramid and the heads.

    Args:
        stages: of the backbone.
        classes: without the background.
        channels: of the pyramid and its heads.
        convs: of the box head.
        width: of its fully connected layer.
        anchor_scale: side of the anchors in strides of their map.
        masks: whether masks are made.
        sampled: regions of an image in training.
        anchors: sampled of an image in training.
        before: proposals of a map before suppression, in training and at test.
        after: proposals of an image after it, likewise.
    """

    def __init__(
        self,
        stages: Stages,
        classes: int,
        *,
        channels: int = 256,
        convs: int = 4,
        width: int = 1024,
        anchor_scale: float = 8.0,
        masks: bool = False,
        sampled: int = 512,
        anchors: int = 256,
        before: tuple[int, int] = (2000, 1000),
        after: tuple[int, int] = (1000, 1000),
    ) -> None:
        super().__init__()
        self.stages = stages
        self.pyramid = FeaturePyramidNetwork(stages.widths, channels, LastLevelMaxPool(), nn.BatchNorm2d)
        strides = [*stages.strides, 2 * stages.strides[-1]]
        self.anchor_sizes, self.multiple = [[anchor_scale * one] for one in strides], stages.strides[-1]
        anchor = Anchors(self.anchor_sizes, strides)
        self.proposals = Proposals(anchor, channels, sampled=anchors, before=before, after=after)
        regions = PyramidRegions(channels, stages.strides, convs=convs, width=width, masks=classes + 1 if masks else 0)
        self.heads = RegionHeads(regions, classes, sampled=sampled, masks=masks)

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """Return the pyramid's maps, and one of half the side of the coarsest."""
        return self.pyramid({str(index): one for index, one in enumerate(self.stages(images))})

    def of_regions(self, maps: Sequence[Tensor]) -> Maps:
        """Return all but the coarsest."""
        return maps[:-1]


class StageDetector(Detector):
    """Faster or Mask R-CNN on the third stage; regions go through the fourth one and a batch norm more.

    Args:
        network: a ResNet of four stages.
        stages: its first three.
        classes: without the background.
        masks: whether masks are made.
        mask_channels: of the mask head.
        sampled: regions of an image in training.
        anchors: sampled of an image in training.
        before: proposals before suppression, in training and at test.
        after: proposals after it, likewise.
    """

    def __init__(
        self,
        network: nn.Module,
        stages: Stages,
        classes: int,
        *,
        masks: bool = False,
        mask_channels: int = C4_MASK_CHANNELS,
        sampled: int = 512,
        anchors: int = 256,
        before: tuple[int, int] = (12000, 6000),
        after: tuple[int, int] = (2000, 1000),
    ) -> None:
        super().__init__()
        self.stages, self.multiple, stride = stages, 1, stages.strides[-1]
        self.anchor_sizes = [[size * stride / 16 for size in C4_SIZES]]
        self.proposals = Proposals(
            Anchors(self.anchor_sizes, [stride]), stages.widths[-1], sampled=anchors, before=before, after=after
        )
        stage = fourth_stage(network)
        with torch.no_grad():
            one = next(stage.parameters())
            black = torch.zeros(1, stages.widths[-1], 2, 2, dtype=one.dtype, device=one.device)
            width = _in_evaluation(stage, black).shape[1]
        regions = StageRegions(
            stage, stride, width=width, mask_channels=mask_channels, masks=classes + 1 if masks else 0
        )
        self.heads = RegionHeads(regions, classes, sampled=sampled, masks=masks)

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """Return the third stage's map."""
        return {"0": self.stages(images)[-1]}

    def of_regions(self, maps: Sequence[Tensor]) -> Maps:
        """Return the same map."""
        return maps


def padded(images: Sequence[Tensor], sides: tuple[int, int]) -> Tensor:
    """Return images (C, h, w) as one batch (B, C, H, W), zeros at the right and below."""
    batch = images[0].new_zeros(len(images), images[0].shape[0], *sides)
    for one, target in zip(images, batch, strict=True):
        target[:, : one.shape[1], : one.shape[2]] = one
    return batch


def common_sides(sizes: Sequence[tuple[int, int]], multiple: int) -> tuple[int, int]:
    """Return height and width of a batch that holds images of these sizes, multiples of a number.

    >>> common_sides([(96, 150), (84, 112)], 32)
    (96, 160)
    """
    height, width = (-(-max(side) // multiple) * multiple for side in zip(*sizes, strict=True))
    return height, width


def _in_evaluation(stage: nn.Module, rows: Tensor) -> Tensor:
    training: Any = stage.training
    try:
        return cast(Tensor, stage.eval()(rows))
    finally:
        stage.train(training)
