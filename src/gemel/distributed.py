"""The two collectives that losses need, with gradients, and what processes share; the identity on one process.

DDP takes the mean of the processes' gradients. A loss over the global batch, evaluated on every process, then gives
the gradient of one process on the joined batch if each collective's backward is the collective's own adjoint
(a sum over processes) and nothing else.
"""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

_counts_as_one = [False]
"""of all threads: a GPU's backward pass runs in another"""


@contextmanager
def as_one(is_one: bool = True) -> Generator[None]:
    """While this lasts, this process counts as the only one: it holds all rows, as each of the others does."""
    before, _counts_as_one[0] = _counts_as_one[0], is_one
    try:
        yield
    finally:
        _counts_as_one[0] = before


def as_several() -> AbstractContextManager[None]:
    """Return a block in which it does not, within one of `as_one`."""
    return as_one(False)


def world_size() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if _is_one_of_several() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if _is_one_of_several() else 0


def _is_one_of_several() -> bool:
    return dist.is_available() and dist.is_initialized() and not _counts_as_one[0]


def wait_for_all() -> None:
    """Return when every process has called this."""
    if world_size() > 1:
        dist.barrier()


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of `value` over the processes, differentiable: y = Σ_r x_r / W, backward dx = Σ_r dy_r / W."""
    if world_size() == 1:
        return value
    return cast(Tensor, _Mean.apply(value))


def gather(rows: Tensor) -> Tensor:
    """Return the rows of all processes by rank, (W·n, ...), differentiable; every process gives (n, ...)."""
    if world_size() == 1:
        return rows
    return cast(Tensor, _Gather.apply(rows))


def joined_rows(rows: Tensor) -> Tensor:
    """Return the rows of all processes by rank, without a gradient; each may give another number of rows, or none."""
    if world_size() == 1:
        return rows
    counts = cast("list[int]", gather(torch.tensor([len(rows)])).tolist())
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows.detach()
    parts = gather(padded).split(max(counts))
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def from_first(value: Tensor) -> Tensor:
    """Return the first process's tensor; every process gives one of the same shape and type."""
    if world_size() == 1:
        return value
    found = value.detach().clone(memory_format=torch.contiguous_format)
    dist.broadcast(found, 0)
    return found


def any_of(flag: bool) -> bool:
    """Return whether the flag is set on some process; every process must call it."""
    return bool(gather(torch.tensor([flag])).any())


def merged(entries: Mapping[int, str]) -> dict[int, str]:
    """Return the entries of all processes; every process must call it."""
    if world_size() == 1:
        return dict(entries)
    parts: list[dict[int, str]] = [{} for _ in range(world_size())]
    dist.all_gather_object(parts, dict(entries))
    return {key: value for part in parts for key, value in part.items()}


class _Mean(Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _sum(value) / world_size()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _sum(grads[0]) / world_size()


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rows = len(rows)
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        start = rank() * ctx.rows
        return _sum(grads[0])[start : start + ctx.rows]


def _sum(value: Tensor) -> Tensor:
    total = value.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total
