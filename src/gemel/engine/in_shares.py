"""A batch in shares that any number of processes can hold between them, and sums over them in one order: the same bits.

Float sums depend on their order. Here a batch of B images is so many shares of B / shares images, whoever holds them:
the network sees each share by itself, and whatever is summed over images (statistics and gradients of batch norms,
gradients of weights) is summed within a share, then over all shares in their order. The features of the whole batch
reach every process; heads and loss are computed there as on one.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gemel.backbones.base import SHOWN, Backbone
from gemel.backbones.parts.in_parts import Looked, unchanged
from gemel.distributed import alone, gather, rank, world_size
from gemel.engine.ordered_sums import convolution, of_shares
from gemel.engine.sync_batch_norm import normalised
from gemel.errors import UserError

CONVOLUTIONS = {torch.conv1d, torch.conv2d, torch.conv3d}

DEFAULTS: tuple[Any, ...] = (None, 1, 0, 1, 1)
"""bias, stride, padding, dilation and groups of a convolution"""

BY_SHARE = {
    *CONVOLUTIONS,
    functional.linear,
    functional.layer_norm,
    functional.group_norm,
    functional.prelu,
}
"""what takes rows and parameters and looks at each image by itself"""


@dataclass(frozen=True)
class Shares:
    """How a batch is shared.

    Args:
        count: shares of a batch, over all processes.
        images: of a share.
    """

    count: int
    images: int

    @contextmanager
    def shown(self) -> Generator[None]:
        """While this lasts, backbones are shown a process's images share by share, and give the whole batch's features.

        To all else this process is the only one.

        Raises:
            UserError: the network sums over images where shares can't be told apart, or the method shows it others.
        """
        token = SHOWN.set(self._show)
        try:
            with alone():
                yield
        finally:
            SHOWN.reset(token)

    def _show(self, look: Callable[[Tensor], Looked], images: Tensor) -> Looked:
        with alone(False):
            own = self.count // world_size()
            views, rest = divmod(len(images), own * self.images)
            if rest:
                raise UserError(
                    f"--shares {self.count}: the method shows its network {len(images)} of the "
                    f"{own * self.images} images that a process has; leave --shares out"
                )
            form = (views, own, self.images)
            found = _looked(look, turned(images, form), own)
            if isinstance(found, Tensor):
                return cast(Tensor, _OfAll.apply(found, form))
            features, maps = found
            return cast(Any, (_OfAll.apply(features, form), [_OfAll.apply(one, form) for one in maps]))


def check_network(backbone: Backbone, side: int) -> None:
    """Try a pass of two images of a side, in training mode.

    Raises:
        UserError: the network can't be taught in shares.
    """
    network, training = backbone.network, backbone.network.training
    images = torch.rand(2, backbone.in_channels, side, side)
    with unchanged(network), torch.random.fork_rng(devices=[]), alone():
        try:
            _looked(network.train(), images, 1)
        finally:
            network.train(training)


def _looked(look: Callable[[Tensor], Looked], images: Tensor, own: int) -> Looked:
    """Return what a process's images give, share after share: of each share all of its views."""
    drawn = _random_state(images)
    with _ByShare(own):
        found = look(images)
    if not _random_state(images).equal(drawn):
        raise UserError(
            "--shares: the network draws random numbers (dropout, stochastic depth), others on each number of "
            "processes; set them to 0, or leave --shares out"
        )
    return found


def _random_state(images: Tensor) -> Tensor:
    """Return the state of the generator that networks draw from."""
    return torch.cuda.get_rng_state(images.device) if images.is_cuda else torch.get_rng_state()


def turned(rows: Tensor, form: Sequence[int]) -> Tensor:
    """Return rows in the order of their first two indices turned; (a·b·n, ...) of the form (a, b, n)."""
    if 1 in form[:2]:
        return rows
    order = torch.arange(len(rows), device=rows.device).view(*form).transpose(0, 1).flatten()
    return rows[order]


class _OfAll(Function):
    """The rows of all processes, view after view, from each one's, share after share."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, form: tuple[int, int, int]) -> Tensor:
        views, own, images = form
        ctx.form = form
        with alone(False):
            return turned(gather(rows), (own * world_size(), views, images))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        views, own, images = ctx.form
        with alone(False):
            count, first = own * world_size(), own * rank()
        mine = grads[0].unflatten(0, (views, count, images))[:, first : first + own].flatten(0, 2)
        return turned(mine, ctx.form), None


class _ByShare(TorchFunctionMode):
    """Applies what has parameters to each of a process's shares, and sums their gradients over all shares in order.

    Args:
        own: shares of this process.
    """

    def __init__(self, own: int) -> None:
        super().__init__()
        self.own = own

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if func in CONVOLUTIONS and not (kwargs or torch.is_autocast_enabled(args[0].device.type)):
            rows, weight, bias, stride, padding, dilation, groups = (*args, *DEFAULTS[len(args) - 2 :])
            if not isinstance(padding, str):
                form = (_all(stride), _all(padding), _all(dilation))
                return convolution(rows, weight, bias, form, groups, self.own)
        if func in BY_SHARE:
            return self._apart(func, args, kwargs)
        found = func(*args, **kwargs)
        if isinstance(found, Tensor) and found.requires_grad and any(map(_learns, (*args, *kwargs.values()))):
            raise UserError(
                f"--shares: the network uses its parameters in {getattr(func, '__name__', func)}, and gradients can be "
                "summed share by share in convolutions, linear maps and norms alone; leave --shares out, or take a "
                "convolutional network"
            )
        return found

    def _apart(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        rows, *others = args
        if len(rows) % self.own:
            raise UserError(f"--shares: the network makes {len(rows)} rows of {self.own} shares; leave --shares out")
        copied = [_copies(one, self.own) for one in others]
        named = {name: _copies(one, self.own) for name, one in kwargs.items()}
        return torch.cat(
            [
                func(_aligned(part), *(one[share] for one in copied), **{key: one[share] for key, one in named.items()})
                for share, part in enumerate(rows.chunk(self.own))
            ]
        )

    def _batch_norm(
        self,
        rows: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return self._apart(functional.batch_norm, (rows, mean, variance, weight, bias, False, momentum, eps), {})
        normed, found_mean, found_variance, count = normalised(rows, weight, bias, eps, shares=self.own)
        if mean is not None and variance is not None:
            mean.lerp_(found_mean.to(mean.dtype), momentum)
            variance.lerp_((found_variance * (count / (count - 1).clamp_min(1))).to(variance.dtype), momentum)
        return normed


def _learns(value: Any) -> bool:
    """Return whether a value is, or holds, a parameter that learns."""
    if isinstance(value, (list, tuple)):
        return any(map(_learns, cast("Sequence[Any]", value)))
    return isinstance(value, Tensor) and value.is_leaf and value.requires_grad


def _aligned(rows: Tensor) -> Tensor:
    """Return rows that begin where memory is aligned, as products of matrices may depend on it."""
    return rows if rows.data_ptr() % 64 == 0 else rows.clone()


def _copies(value: Any, own: int) -> Sequence[Any]:
    """Return one of a parameter for each share, all the same; of what does not learn, itself."""
    if not (torch.is_grad_enabled() and _learns(value)):
        return [value] * own
    return of_shares(value, own)


def _all(value: int | Sequence[int]) -> list[int]:
    return [value] if isinstance(value, int) else list(value)
