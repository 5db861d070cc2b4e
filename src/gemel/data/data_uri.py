"""A small picture as a data URI, which a page holds without another file."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 96
"""pixels of a picture, at most"""


def data_uri(pixels: NDArray[np.uint8], side: int = SIDE) -> str:
    """Return pixels (H, W) or (H, W, 3) as a data URI: PNG where they are at most `side` wide and high, else JPEG."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    if max(image.size) <= side:
        image.save(buffer, "PNG")
        kind = "png"
    else:
        image.thumbnail((side, side), Image.Resampling.BICUBIC)
        image.convert("RGB").save(buffer, "JPEG", quality=82)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
