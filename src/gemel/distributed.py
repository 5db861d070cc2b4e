"""The two collectives that losses need, with gradients, and how processes agree; the identity on one process.

DDP takes the mean of the processes' gradients. A loss over the global batch, evaluated on every process, then gives
the gradient of one process on the joined batch if each collective's backward is the collective's own adjoint
(a sum over processes) and nothing else.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function


def world_size() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's place among them, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if world_size() > 1:
        dist.barrier()


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of `value` over the processes, differentiable: y = Σ_r x_r / W, backward dx = Σ_r dy_r / W."""
    if world_size() == 1:
        return value
    return cast(Tensor, _Mean.apply(value))


def gather(rows: Tensor) -> Tensor:
    """Rows of all processes, (W·n, ...), in the order of their ranks; differentiable. Every process gives n rows."""
    if world_size() == 1:
        return rows
    return cast(Tensor, _Gather.apply(rows))


def any_of(flag: bool) -> bool:
    """Whether the flag is up on some process; all of them must ask."""
    if world_size() == 1:
        return flag
    raised = torch.tensor(int(flag))
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return bool(raised)


def merged(found: Mapping[int, str]) -> dict[int, str]:
    """The entries of all processes; all of them must ask."""
    if world_size() == 1:
        return dict(found)
    parts: list[dict[int, str]] = [{} for _ in range(world_size())]
    dist.all_gather_object(parts, dict(found))
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
