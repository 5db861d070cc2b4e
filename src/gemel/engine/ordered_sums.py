"""Sums over the shares of all processes in one order, and the gradients of parameters that are such sums."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function

from gemel.distributed import as_several, gather, world_size

Form = tuple[list[int], list[int], list[int]]
"""stride, padding and dilation of a convolution"""


def of_shares(parameter: Tensor, own: int) -> Sequence[Tensor]:
    """Return a parameter once for each share of this process; its gradient is the sum over the shares of all."""
    return cast("tuple[Tensor, ...]", _OfShares.apply(parameter, own))


def convolution(rows: Tensor, weight: Tensor, bias: Tensor | None, form: Form, groups: int, own: int) -> Tensor:
    """Return a convolution of all of a process's rows at once, wherever that has the bits of a call for each share.

    Args:
        rows: of this process, share after share, (own · images, C, ...).
        weight: the kernel.
        bias: added, or none.
        form: stride, padding and dilation.
        groups: of the channels.
        own: shares of this process.
    """
    return cast(Tensor, _Convolution.apply(rows, weight, bias, form, groups, own))


class _OfShares(Function):
    """A parameter once for each share of this process; its gradient is the sum over the shares of all, in order."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, own: int) -> tuple[Tensor, ...]:
        return tuple(parameter.view_as(parameter) for _ in range(own))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return in_order(grads), None


def in_order(parts: Sequence[Tensor]) -> Tensor:
    """Return the sum over the shares of all processes, from the first to the last."""
    with as_several():
        parts = parts if world_size() == 1 else gather(torch.stack(tuple(parts))).unbind()
    if len(parts) == 1:
        return parts[0]
    found = parts[0] + parts[1]
    for one in parts[2:]:
        found += one
    return found


class _Convolution(Function):
    """The gradients of kernel and bias alone are sums over images."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, form: Form, groups: int, own: int
    ) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.rest = form, groups, own, bias is not None

        def convolved(rows: Tensor) -> Tensor:
            return torch.convolution(rows, weight, bias, *form, False, [0] * len(form[0]), groups)  # pyright: ignore

        return by_image(("forward", weight.shape, form, groups, own), convolved, own, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = cast("tuple[Tensor, Tensor]", ctx.saved_tensors)
        form, groups, own, has_bias = ctx.rest
        bias_size, none = [weight.shape[0]] if has_bias else None, [0] * len(form[0])

        def gradients(g: Tensor, x: Tensor, wanted: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
            return torch.ops.aten.convolution_backward(g, x, weight, bias_size, *form, False, none, groups, wanted)

        inward, of_weight, of_bias = None, None, None
        if ctx.needs_input_grad[0]:
            key = ("backward", weight.shape, form, groups, own)
            inward = by_image(key, lambda g, x: gradients(g, x, [True, False, False])[0], own, grads[0], rows)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            pairs = zip(grads[0].chunk(own), rows.chunk(own), strict=True)
            found = [gradients(g, x, [False, True, has_bias]) for g, x in pairs]
            of_weight = in_order([one[1] for one in found])
            of_bias = in_order([one[2] for one in found]) if has_bias else None
        return inward, of_weight, of_bias, None, None, None


_has_same_bits: dict[Any, bool] = {}
"""whether one call for all rows gives what a call for each share does, by what is called and the shapes"""


def by_image(key: Any, work: Callable[..., Tensor], own: int, *rows: Tensor) -> Tensor:
    """Return what `work` makes of each share of rows, by a single call where that is known to have the same bits.

    Args:
        key: tells what is worked from other works.
        work: looks at each image by itself; but a library may choose another order of sums for other numbers of rows.
        own: shares of this process.
        rows: of this process.
    """
    key = (str(key), torch.get_num_threads(), *((one.shape, one.stride(), one.dtype, one.device) for one in rows))
    if own == 1 or _has_same_bits.get(key, False):
        return work(*rows)
    found = torch.cat([work(*parts) for parts in zip(*(one.chunk(own) for one in rows), strict=True)])
    if key not in _has_same_bits and bool(found.any()):  # zeros would prove nothing
        _has_same_bits[key] = work(*rows).equal(found)
    return found
