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
from gemel.distributed import as_one, as_several, gather, rank, world_size
from gemel.engine.ordered_sums import convolution, of_shares
from gemel.engine.sync_batch_norm import normalised
from gemel.errors import UserError

ADVICE = "leave --shares out"

CONVOLUTIONS = {torch.conv1d, torch.conv2d, torch.conv3d}

DEFAULTS: tuple[Any, ...] = (None, 1, 0, 1, 1)
"""bias, stride, padding, dilation and groups of a convolution"""

BY_SHARE = {
    *("conv1d", "conv2d", "conv3d", "linear", "layer_norm", "group_norm", "prelu", "scaled_dot_product_attention"),
    *("sigmoid", "tanh", "exp", "sqrt", "pow", "softmax", "softplus", "silu", "gelu", "mish", "elu", "selu", "celu"),
    *("hardswish", "hardsigmoid", "mean", "sum", "adaptive_avg_pool2d", "avg_pool2d", "interpolate", "expand_as"),
}
"""names of functions that see each image by itself, but may round otherwise for other numbers of them"""

ARITHMETIC = {"add", "add_", "sub", "mul", "mul_", "div", "neg"}
"""rounds each value alike wherever it stands; where shapes differ, the gradients are sums"""

PAIRED = {*ARITHMETIC, "pow", "expand_as", "scaled_dot_product_attention"}
"""takes other tensors, too, that may have a row for each of the first one's"""

ALIKE = {
    *ARITHMETIC,
    *("relu", "relu_", "relu6", "hardtanh", "leaky_relu", "clamp", "clamp_min", "where", "max_pool2d", "dropout", "to"),
    *("cat", "stack", "split", "chunk", "unbind", "narrow", "select", "__getitem__", "view", "reshape", "flatten"),
    *("permute", "transpose", "contiguous", "squeeze", "unsqueeze", "detach"),
}
"""functions that move or choose values, or round each alike wherever it stands"""


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
            with as_one():
                yield
        finally:
            SHOWN.reset(token)

    def _show(self, look: Callable[[Tensor], Looked], images: Tensor) -> Looked:
        with as_several():
            own = self.count // world_size()
            views, rest = divmod(len(images), own * self.images)
            if rest:
                raise UserError(
                    f"--shares {self.count}: the method shows its network {len(images)} of the "
                    f"{own * self.images} images that a process has; {ADVICE}"
                )
            form = (views, own, self.images)
            found, _ = _looked(look, turned(images, form), own)
            if isinstance(found, Tensor):
                return cast(Tensor, _OfAll.apply(found, form))
            features, maps = found
            return cast(Any, (_OfAll.apply(features, form), [_OfAll.apply(one, form) for one in maps]))


def check_network(backbone: Backbone, side: int) -> None:
    """Try passes of two and of four images of a side, in training mode.

    Raises:
        UserError: the network can't be taught in shares.
    """
    network, training = backbone.network, backbone.network.training
    with unchanged(network), torch.random.fork_rng(devices=[]), as_one():
        try:
            network.train()
            few, more = (
                _looked(network, torch.rand(count, backbone.in_channels, side, side), 2)[1] for count in (2, 4)
            )
        finally:
            network.train(training)
    if more != [2 * one for one in few]:
        raise UserError(f"--shares: what the network computes can't be told apart by image; {ADVICE}")


def _looked(look: Callable[[Tensor], Looked], images: Tensor, own: int) -> tuple[Looked, list[int]]:
    """Return what a process's images give, share after share (of each all of its views), and the rows of each call."""
    drawn, mode = _random_state(images), _ByShare(own)
    with mode:
        found = look(images)
    if not _random_state(images).equal(drawn):
        raise UserError(
            "--shares: the network draws random numbers (dropout, stochastic depth), others on each number of "
            f"processes; set them to 0, or {ADVICE}"
        )
    return found, mode.rows


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
        with as_several():
            return turned(gather(rows), (own * world_size(), views, images))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        views, own, images = ctx.form
        with as_several():
            count, first = own * world_size(), own * rank()
        mine = grads[0].unflatten(0, (views, count, images))[:, first : first + own].flatten(0, 2)
        return turned(mine, ctx.form), None


class _ByShare(TorchFunctionMode):
    """Applies to each of a process's shares what may round otherwise for more, and sums gradients over all in order.

    Args:
        own: shares of this process.

    Attributes:
        rows: of each call that was applied to shares.
    """

    def __init__(self, own: int) -> None:
        super().__init__()
        self.own = own
        self.rows: list[int] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", str(func))
        if func is functional.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if func in CONVOLUTIONS and not (kwargs or torch.is_autocast_enabled(args[0].device.type)):
            rows, weight, bias, stride, padding, dilation, groups = (*args, *DEFAULTS[len(args) - 2 :])
            if not isinstance(padding, str):
                form = (_all(stride), _all(padding), _all(dilation))
                self._note_rows(rows, name)
                return convolution(rows, weight, bias, form, groups, self.own)
        shapes = {one.shape for one in args if isinstance(one, Tensor)}
        mixed = name in ARITHMETIC and (len(shapes) > 1 or "alpha" in kwargs)
        if name in BY_SHARE or (mixed and not name.endswith("_")):
            return self._apart(func, name, args, kwargs)
        found, given = func(*args, **kwargs), list(_tensors((args, kwargs)))
        made = [one for one in _tensors(found) if one.is_floating_point()]
        if (
            mixed
            or (made and name not in ALIKE)
            or (any(map(_learns, given)) and any(one.requires_grad for one in made))
        ):
            raise _refused(name)
        return found

    def _note_rows(self, rows: Any, name: str) -> None:
        """Note how many rows are applied by shares, and refuse those that can't be."""
        if not isinstance(rows, Tensor) or _learns(rows) or rows.ndim < 2 or len(rows) % self.own:
            raise _refused(name)
        self.rows.append(len(rows))

    def _apart(self, func: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        rows, *others = args
        self._note_rows(rows, name)
        paired = rows if name in PAIRED else None
        shares = [_of_each(one, paired, self.own) for one in others]
        named = {key: _of_each(one, paired, self.own) for key, one in kwargs.items()}
        in_place = "inplace" in getattr(getattr(func, "__code__", None), "co_varnames", ())  # a part can't be changed
        found: list[Tensor] = []
        for share, part in enumerate(rows.chunk(self.own)):
            part, rest = part.clone() if in_place else _aligned(part), [one[share] for one in shares]
            found.append(func(part, *rest, **{key: one[share] for key, one in named.items()}))
            if found[-1].shape[:1] != part.shape[:1]:
                raise _refused(name)
        return torch.cat(found)

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
            return self._apart(
                functional.batch_norm, "batch_norm", (rows, mean, variance, weight, bias, False, momentum, eps), {}
            )
        self._note_rows(rows, "batch_norm")
        normed, found_mean, found_variance, count = normalised(rows, weight, bias, eps, shares=self.own)
        if mean is not None and variance is not None:
            mean.lerp_(found_mean.to(mean.dtype), momentum)
            variance.lerp_((found_variance * (count / (count - 1).clamp_min(1))).to(variance.dtype), momentum)
        return normed


def _refused(name: str) -> UserError:
    return UserError(
        f"--shares: the network uses {name}, where images can't be told apart, or round otherwise among more or fewer; "
        f"{ADVICE}, or take a ResNet"
    )


def _learns(value: Any) -> bool:
    """Return whether a value is a parameter that learns."""
    return isinstance(value, Tensor) and value.is_leaf and value.requires_grad and torch.is_grad_enabled()


def _tensors(value: Any) -> Generator[Tensor]:
    """Yield the tensors of a value, and of the values that it holds."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in cast("Sequence[Any]", value):
            yield from _tensors(one)
    elif isinstance(value, dict):
        yield from _tensors(list(cast("dict[str, Any]", value).values()))


def _aligned(rows: Tensor) -> Tensor:
    """Return rows that begin where memory is aligned, as products of matrices may depend on it."""
    return rows if rows.data_ptr() % 64 == 0 else rows.clone()


def _of_each(value: Any, rows: Tensor | None, own: int) -> Sequence[Any]:
    """Return what each share sees of an argument: a parameter of its own, its rows, or the argument itself.

    Args:
        value: the argument.
        rows: those that it may be a pair of.
        own: shares of this process.
    """
    if _learns(value):
        return of_shares(value, own)
    if rows is not None and isinstance(value, Tensor) and value.ndim == rows.ndim and len(value) == len(rows):
        return value.chunk(own)
    return [value] * own


def _all(value: int | Sequence[int]) -> list[int]:
    return [value] if isinstance(value, int) else list(value)
