"""The two collectives that losses need, with gradients; on one process they are the identity.

DDP takes the mean of the processes' gradients. A loss over the global batch, evaluated on every process, then gives
the gradient of one process on the joined batch if each collective's backward is the collective's own adjoint
(a sum over processes) and nothing else.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
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


@contextmanager
def joined() -> Generator[None]:
    """The process group that a launcher asks for (torchrun's WORLD_SIZE, RANK, ...), unless there is one already."""
    alone = int(os.environ.get("WORLD_SIZE", 1)) == 1
    if alone or not dist.is_available() or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


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
