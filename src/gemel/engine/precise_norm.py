"""Statistics of batch norms measured over many batches, in place of the moving average that training leaves."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from gemel.distributed import gather

Batch = Any


class _Measured:
    """Mean and squared deviations of everything that a norm has seen, merged batch by batch in float64.

    With n, μ, M of the rows before and m, ν, N of the new ones: M += N + (ν - μ)² n m / (n + m).
    """

    def __init__(self, norm: _BatchNorm) -> None:
        width, where = norm.num_features, norm.running_mean
        self.norm = norm
        self.state = torch.zeros(3, width, dtype=torch.float64, device=None if where is None else where.device)

    def note(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Note the rows that a norm is given; a hook of it."""
        rows = inputs[0].detach().double()
        if rows.numel():
            axes = [0, *range(2, rows.dim())]
            variance, mean = torch.var_mean(rows, axes, correction=0)
            count = torch.full_like(mean, rows.numel() / rows.shape[1])
            self.state = _merged(self.state, torch.stack([count, mean, variance * count]))

    def write(self) -> None:
        """Let the norm have what all processes measured; the variance is that of the population."""
        state = torch.zeros_like(self.state)
        for one in gather(self.state[None]):
            state = _merged(state, one)
        count, mean, squares = state
        if self.norm.running_mean is not None and self.norm.running_var is not None and bool((count > 0).all()):
            self.norm.running_mean.copy_(mean)
            self.norm.running_var.copy_(squares / count)


@torch.no_grad()
def measure(network: nn.Module, batches: Iterable[Batch], see: Callable[[Batch], object]) -> None:
    """Set the statistics of the batch norms that are in training mode; weights and all else stay.

    Args:
        network: in training mode.
        batches: as in training.
        see: passes one through the network; on every process.
    """
    norms = [one for one in network.modules() if isinstance(one, _BatchNorm) and one.training]
    measured = [_Measured(one) for one in norms if one.track_running_stats]
    hooks = [one.norm.register_forward_pre_hook(one.note) for one in measured]
    try:
        for batch in batches:
            see(batch)
    finally:
        for hook in hooks:
            hook.remove()
    for one in measured:
        one.write()


def _merged(one: Tensor, other: Tensor) -> Tensor:
    """Return count, mean and squared deviations, (3, C), of two parts together."""
    count = one[0] + other[0]
    share = other[0] / count.clamp_min(1)
    away = other[1] - one[1]
    return torch.stack([count, one[1] + away * share, one[2] + other[2] + away.square() * one[0] * share])
