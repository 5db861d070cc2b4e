"""Features of regions, by pyramid or by the fourth stage, and what the boxes' and masks' heads make of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import roi_align

Maps = Sequence[Tensor]
"""of a batch, finest first, each (B, C, H, W)"""

BOX_SIDE, MASK_SIDE, STAGE_SIDE = 7, 14, 14
"""positions along a side of what is pooled of a region"""


class Pool(nn.Module):
    """RoIAlign, aligned and with as many samples as a region has pixels; each region from the level of its size.

    level = ⌊4 + log2(√area / 224 + 1e-8)⌋, level k being the map of stride 2^k.

    Args:
        side: positions along a side of the output.
        strides: of the maps, pixels.
    """

    def __init__(self, side: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.side, self.strides = side, list(strides)
        self.lowest = self.strides[0].bit_length() - 1

    def forward(self, maps: Maps, boxes: Sequence[Tensor]) -> Tensor:
        """Return (R, C, side, side) of the boxes of all images, each image's (r, 4) in pixels."""
        image = torch.cat([one.new_full((len(one), 1), index) for index, one in enumerate(boxes)])
        rows = torch.cat([image, torch.cat(list(boxes))], 1)
        levels = self._levels(rows[:, 1:])
        out = maps[0].new_zeros(len(rows), maps[0].shape[1], self.side, self.side)
        for level, (one, stride) in enumerate(zip(maps, self.strides, strict=True)):
            which = (levels == level).nonzero()[:, 0]
            pooled = roi_align(one, rows[which].to(one.dtype), self.side, 1 / stride, 0, aligned=True)
            out = out.index_put((which,), pooled.to(out.dtype))
        return out

    def _levels(self, boxes: Tensor) -> Tensor:
        if len(self.strides) == 1:
            return boxes.new_zeros(len(boxes), dtype=torch.long)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        level = torch.floor(4 + torch.log2(area.sqrt() / 224 + 1e-8))
        return level.clamp(self.lowest, self.lowest + len(self.strides) - 1).long() - self.lowest


class Regions(nn.Module, ABC):
    """What regions look like to the heads.

    Attributes:
        width: of a region's vector.
    """

    width: int

    @abstractmethod
    def vectors(self, maps: Maps, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return the regions' vectors, (R, width), and their maps where masks are made of the same ones."""

    @abstractmethod
    def mask_logits(self, maps: Maps, boxes: Sequence[Tensor], shared: Tensor | None) -> Tensor:
        """Return mask logits (R, classes + 1, 28, 28); `shared`: the maps of these regions, if `vectors` gave them."""


class PyramidRegions(Regions):
    """Convolutions and one fully connected layer on 7 x 7; masks by convolutions of their own on 14 x 14.

    Args:
        channels: of every map of the pyramid.
        strides: of the maps that regions are taken from.
        convs: of the box head.
        width: of its fully connected layer.
        masks: classes + 1 of the mask head; 0: there is none.
    """

    def __init__(self, channels: int, strides: Sequence[int], *, convs: int, width: int, masks: int) -> None:
        super().__init__()
        self.width = width
        self.box_pool, self.mask_pool = Pool(BOX_SIDE, strides), Pool(MASK_SIDE, strides)
        layers = [channels] * convs
        self.box_head = FastRCNNConvFCHead((channels, BOX_SIDE, BOX_SIDE), layers, [width], nn.BatchNorm2d)
        _initialise(self.box_head)
        self.mask_head = MaskRCNNHeads(channels, [channels] * 4, 1, nn.BatchNorm2d) if masks else None
        self.mask_predictor = _mask_predictor(channels, channels, masks) if masks else None

    def vectors(self, maps: Maps, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return the vectors; masks have regions of their own."""
        return self.box_head(self.box_pool(maps, boxes)), None

    def mask_logits(self, maps: Maps, boxes: Sequence[Tensor], shared: Tensor | None) -> Tensor:
        """Return the logits by the mask head."""
        assert self.mask_head is not None and self.mask_predictor is not None
        return self.mask_predictor(self.mask_head(self.mask_pool(maps, boxes)))


class StageRegions(Regions):
    """The network's fourth stage on 14 x 14 of the third one's map, a batch norm more, and the mean; masks of the same.

    Args:
        stage: the fourth stage.
        stride: of the map that it sees, pixels.
        width: of the stage's maps.
        mask_channels: between the stage's maps and the mask's logits.
        masks: classes + 1 of the mask head; 0: there is none.
    """

    def __init__(self, stage: nn.Module, stride: int, *, width: int, mask_channels: int, masks: int) -> None:
        super().__init__()
        self.width = width
        self.pool = Pool(STAGE_SIDE, [stride])
        self.stage, self.norm = stage, nn.BatchNorm2d(width)
        self.mask_predictor = _mask_predictor(width, mask_channels, masks) if masks else None

    def vectors(self, maps: Maps, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return the means of the regions' maps, and the maps."""
        found = self.norm(self.stage(self.pool(maps, boxes)))
        return found.mean((2, 3)), found

    def mask_logits(self, maps: Maps, boxes: Sequence[Tensor], shared: Tensor | None) -> Tensor:
        """Return the logits by a transposed convolution."""
        assert self.mask_predictor is not None
        if shared is None:
            shared = self.vectors(maps, boxes)[1]
        return self.mask_predictor(shared)


def _mask_predictor(channels: int, hidden: int, classes: int) -> MaskRCNNPredictor:
    """Double the side, then one logit for each class, from N(0, 0.001²)."""
    made: Any = MaskRCNNPredictor(channels, hidden, classes)
    nn.init.zeros_(made.conv5_mask.bias)
    nn.init.normal_(made.mask_fcn_logits.weight, std=0.001)
    nn.init.zeros_(made.mask_fcn_logits.bias)
    return made


def _initialise(head: nn.Module) -> None:
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
