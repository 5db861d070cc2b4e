"""Inference crops of evaluations that do not use the usual one."""

from functools import cached_property
from typing import Literal

import numpy as np

from gemel.data.augment import resized
from gemel.data.decode import load
from gemel.data.pixel_values import Decoding, Pixels
from gemel.data.sources import Source
from gemel.data.sources.parts import Subset

Crop = Literal["middle", "whole"]
"""middle: shorter side resized, then centre crop; whole: both sides resized, whatever the aspect ratio"""

CROPS: dict[Crop, str] = {
    "middle": "shorter side resized to the size, bicubic, and the middle",
    "whole": "both sides resized to the size, bicubic",
}
"""descriptions for the settings of a result"""


class Cropped(Subset):
    """All images of a source as square images of one size.

    Args:
        source: the images.
        size: side, pixels.
        crop: part of the image.
    """

    def __init__(self, source: Source, size: int, crop: Crop) -> None:
        super().__init__(source, np.arange(len(source)))
        self.size = size
        self.crop = crop

    def read(self, index: int) -> Pixels:
        """Return the crop, (size, size) or (size, size, C).

        Raises:
            Unreadable: as `load`.
        """
        image = load(self.source, index)
        height, width = image.shape[:2]
        across, down = (width, height) if self.crop == "whole" else (min(height, width),) * 2
        left, top = (width - across) / 2, (height - down) / 2
        box = (left, top, left + across, top + down)
        return np.array(resized(image, (self.size, self.size), box))

    @cached_property
    def decoding(self) -> Decoding:
        """Of the crops, which are decoded already."""
        return self.source.decoding._replace(black=0.0, white=255.0)
