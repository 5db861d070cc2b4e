"""Turn bytes into the normalised floats that networks take, on the batch's device, in training and evaluation."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemel.data.compiled import compiled, is_compiled
from gemel.settings.recipes import VectorViews, Views


class Normalise(torch.nn.Module):
    """Turn levels of 255 into floats, (x / 255 - mean) / std by channel, in one fused multiply and add.

    Args:
        mean: by channel, as shares of 255.
        std: by channel, as shares of 255.
        planes: channels stay one after the other, as onnxruntime takes them; else they come last, on which torch's
            convolutions are fastest.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, planes: bool = False) -> None:
        super().__init__()
        self.planes = planes
        shift, scale = torch.tensor(mean), torch.tensor(std)
        self.register_buffer("scale", (1 / (255 * scale)).view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", (-shift / scale).view(-1, 1, 1), persistent=False)
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, views: Tensor) -> Tensor:
        """Normalise (B, C, H, W), uint8 or floats, to float32."""
        if self.planes:
            floats = views.to(memory_format=torch.contiguous_format, dtype=torch.float32, copy=True)
            return torch.addcmul(self.shift, floats, self.scale, out=floats)
        plain = views.dtype == torch.uint8 and self.scale.dtype == torch.float32 and views.device.type == "cpu"
        return self._looked_up(views) if plain and is_compiled() else self._calculated(views)

    def _calculated(self, views: Tensor) -> Tensor:
        floats = views.to(memory_format=torch.channels_last, dtype=torch.float32)
        return torch.addcmul(self.shift, floats, self.scale)

    def _looked_up(self, views: Tensor) -> Tensor:
        """Give the same bits by a table, since a byte has 256 values; torch takes several times as long."""
        table = self._calculated(torch.arange(256, dtype=torch.uint8).expand(1, 3, 1, 256))[0, :, 0]
        count, channels, height, width = views.shape
        # numpy asks for huge pages: as small ones, memory that is new takes several times as long as what is written
        floats = np.empty(views.numel(), np.float32)
        planes = views.contiguous().view(count, channels, height * width)
        _look_up(planes.numpy(), table.contiguous().numpy(), floats.reshape(count, height * width * channels))
        return torch.from_numpy(floats).view(count, height, width, channels).permute(0, 3, 1, 2)


def finisher(views: Views) -> torch.nn.Module:
    """Return what turns drawn views into what a network takes: vectors are taken as they are."""
    return torch.nn.Identity() if isinstance(views, VectorViews) else Normalise(views.mean, views.std)


@compiled()
def _look_up(planes: NDArray[np.uint8], table: NDArray[np.float32], out: NDArray[np.float32]) -> None:
    """Write planes (B, 3, N) as pixels (B, 3 · N), channels fastest, by a table (3, 256)."""
    for image in range(planes.shape[0]):
        red, green, blue = planes[image]
        pixels = out[image]
        for i in range(red.size):
            pixels[3 * i] = table[0, red[i]]
            pixels[3 * i + 1] = table[1, green[i]]
            pixels[3 * i + 2] = table[2, blue[i]]
