"""A number that checkpoints hold and no device does: reading it waits for nothing."""

import torch
from torch import Tensor, nn


class Counter(nn.Module):
    """Counts epochs, or what else happened, over interruptions."""

    def __init__(self) -> None:
        super().__init__()
        self.value = 0

    def get_extra_state(self) -> Tensor:
        """Return the count for a checkpoint, which holds tensors."""
        return torch.tensor(self.value)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the count of a checkpoint."""
        self.value = int(state)
