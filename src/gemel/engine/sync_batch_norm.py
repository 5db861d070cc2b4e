"""Batch normalisation over the rows of all processes, on any device."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from gemel.distributed import as_several, gather, world_size
from gemel.methods.parts.precision import widened


class SyncedBatchNorm(_BatchNorm):
    """Batch norm whose statistics in training are those of the joined batch, whatever share of it each process holds.

    y = γ x̂ + β,  x̂ = (x - μ) / √(σ² + ε),  μ, σ² over the rows and positions of all processes; a process may have
    no rows. torch's SyncBatchNorm works on GPUs only: it does the work there, and elsewhere its equations are
    followed here. (DDP refuses a network with its subclasses on a CPU: hence its forward is borrowed.)

    Args:
        norm: its parameters and buffers are shared, the very tensors, so that optimisers keep theirs.
    """

    process_group = None
    _check_input_dim = nn.SyncBatchNorm._check_input_dim  # pyright: ignore
    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels  # pyright: ignore

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.training = norm.training
        # timm's norms also apply what follows them, dropout and activation.
        self.drop: nn.Module | None = getattr(norm, "drop", None)
        self.act: nn.Module | None = getattr(norm, "act", None)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise this process's rows, (n, C, ...)."""
        if not self.training or world_size() == 1:
            normed = super().forward(input)
        else:
            normed = nn.SyncBatchNorm.forward(cast(Any, self), input) if input.is_cuda else self._together(input)
        for then in (self.drop, self.act):
            normed = normed if then is None else then(normed)
        return normed

    def _together(self, rows: Tensor) -> Tensor:
        normed, mean, variance, count = normalised(rows, self.weight, self.bias, self.eps)
        kept = self.track_running_stats
        known = not (self.running_mean is None or self.running_var is None or self.num_batches_tracked is None)
        if kept and known and bool(count > 0):  # no process may have had a row
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            share = 1.0 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
            unbiased = variance * (count / (count - 1).clamp_min(1))
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        return normed


def normalised(
    rows: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float, *, shares: int | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return this process's rows normalised over all, mean and biased variance, (C,), and the number of values.

    Args:
        rows: of this process, (n, C, ...); none, too, unless they are in shares.
        weight: γ, (C,).
        bias: β, (C,).
        epsilon: ε.
        shares: equal ones that this process's rows consist of: all sums are within a share, then over all shares in
            their order, and the parameters' gradients are those of the joined batch. None: sums are within a process,
            and the parameters' gradients are the process's own, for DDP to average as every other parameter's.
    """
    return cast("tuple[Tensor, Tensor, Tensor, Tensor]", _Normalise.apply(rows, weight, bias, epsilon, shares))


class _Normalise(Function):
    """Besides the normalised rows: mean and biased variance of the joined batch, (C,), and its number of values."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor | None, bias: Tensor | None, epsilon: float, shares: int | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        own = widened(rows).new_zeros(shares or 1, 3, rows.shape[1])  # mean, variance and count
        for share, part in zip(own, rows.chunk(shares or 1), strict=True):
            if len(part):
                share[0], share[1] = torch.batch_norm_update_stats(widened(part), None, None, 0.0)
                share[2] = part.numel() // part.shape[1]
        means, variances, counts = gather(own).unbind(1)  # each (W · shares, C)
        count = counts[:, 0].sum()
        weights = counts / count.clamp_min(1)
        mean = (weights * means).sum(0)
        variance = (weights * (variances + (means - mean).square())).sum(0)  # no difference of large squares
        normed = functional.batch_norm(rows, mean, variance, weight, bias, training=False, eps=epsilon)
        ctx.save_for_backward(rows, weight, mean, (variance + epsilon).rsqrt(), count)
        ctx.mark_non_differentiable(mean, variance, count)
        ctx.shares = shares
        return normed, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None, None]:
        rows, weight, mean, scale, count = cast(tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor], ctx.saved_tensors)
        grad, wide = grads[0].to(mean.dtype), rows.to(mean.dtype)
        own = _sums(grad, wide, mean, scale, ctx.shares or 1)
        with as_several():
            sums = gather(own).sum(0)
        along, across = (sums / count.clamp_min(1)).unbind(0)
        # γ s (g - along - x̂ across), as slope · g + (x · tilt + level)
        slope = scale if weight is None else scale * weight
        tilt = -slope * scale * across
        level = -slope * along - mean * tilt
        shape = (1, -1) + (1,) * (rows.dim() - 2)
        inward = torch.empty_like(wide)
        for part, x, g in zip(*(one.chunk(ctx.shares or 1) for one in (inward, wide, grad)), strict=True):
            torch.addcmul(level.view(shape), x, tilt.view(shape), out=part).addcmul_(g, slope.view(shape))
        if weight is None:
            return inward.to(rows.dtype), None, None, None, None
        of_shift, of_slope = (own[0] if ctx.shares is None else sums).to(weight.dtype).unbind(0)
        return inward.to(rows.dtype), of_slope, of_shift, None, None


def _sums(grad: Tensor, rows: Tensor, mean: Tensor, scale: Tensor, shares: int) -> Tensor:
    """Return Σ g and Σ g x̂ of each share, (shares, 2, C)."""
    found = grad.new_zeros(shares, 2, rows.shape[1])
    for sums, g, x in zip(found, grad.chunk(shares), rows.chunk(shares), strict=True):
        if len(x):
            _, sums[1], sums[0] = torch.ops.aten.native_batch_norm_backward(
                g, x, None, None, None, mean, scale, True, 0.0, [False, True, True]
            )
    return found


def synchronise(network: nn.Module) -> None:
    """Replace every batch norm below `network` by its synchronised form; tensors and their names stay."""
    for name, child in network.named_children():
        if isinstance(child, _BatchNorm) and not isinstance(child, SyncedBatchNorm):
            setattr(network, name, SyncedBatchNorm(child))
        else:
            synchronise(child)
