"""From bytes to the floats that networks see, on whatever device the batch is; training and evaluation share it."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Normalise(torch.nn.Module):
    """uint8 to floats, (x / 255 - mean) / std by channel, in one fused multiply and add.

    Args:
        mean: by channel, as shares of 255.
        std: by channel, as shares of 255.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        shift, scale = torch.tensor(mean), torch.tensor(std)
        self.register_buffer("scale", (1 / (255 * scale)).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", (-shift / scale).view(3, 1, 1), persistent=False)
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, views: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 to float32, channels last: what convolutions are fastest on."""
        floats = views.to(memory_format=torch.channels_last, dtype=torch.float32)
        return torch.addcmul(self.shift, floats, self.scale)
