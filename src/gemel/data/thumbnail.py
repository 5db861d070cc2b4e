"""A small picture as a file, and as a data URI, which a page holds without another file."""

import base64
import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 96
"""pixels of a picture, at most"""


class Thumbnail(NamedTuple):
    """An image file of a small picture."""

    data: bytes
    kind: str
    """png or jpeg"""

    @property
    def uri(self) -> str:
        """The file as a data URI."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode()}"


def thumbnail(pixels: NDArray[np.uint8], side: int = SIDE) -> Thumbnail:
    """Return pixels (H, W) or (H, W, 3) as a file: PNG where they are at most `side` wide and high, else JPEG."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    if max(image.size) <= side:
        image.save(buffer, "PNG")
        return Thumbnail(buffer.getvalue(), "png")
    image.thumbnail((side, side), Image.Resampling.BICUBIC)
    image.convert("RGB").save(buffer, "JPEG", quality=82)
    return Thumbnail(buffer.getvalue(), "jpeg")
