"""Several processes as one: how they meet, and how the first one's words reach all."""

import atexit
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from gemel.device import device
from gemel.distributed import rank, world_size
from gemel.errors import UserError
from gemel.launcher import launched

WAIT = timedelta(hours=6)
"""for the first process to look at the images, or to cluster; one that ends closes its connections at once"""


@contextmanager
def joined() -> Generator[None]:
    """With the group of the processes that a launcher started; nothing where there is one process.

    The group stays until the process ends: a second meeting would find the first one's traces and fail.

    Raises:
        UserError: this process sees no GPU of its own where others do.
    """
    here = launched()
    if here.processes == 1 or dist.is_initialized():
        yield
        return
    gpu = device().type == "cuda"
    if gpu and torch.cuda.device_count() <= here.local_rank:
        raise UserError(
            f"process {here.local_rank} of this machine sees {torch.cuda.device_count()} GPUs; let every process see "
            "all GPUs of its machine (SLURM: --gpus-per-node)"
        )
    if gpu:
        torch.cuda.set_device(here.local_rank)
    # What processes agree on lies in the CPU's memory: it never waits for a GPU's queue.
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if gpu else "gloo",
        init_method=_meeting_point(),
        rank=here.rank,
        world_size=here.processes,
        timeout=WAIT,
    )
    atexit.register(dist.destroy_process_group)
    yield


def first_says(value: Any) -> Any:
    """The first process's value, on every process; numbers, strings and lists or mappings of them."""
    if not dist.is_initialized():
        return value
    words = [value]
    dist.broadcast_object_list(words, src=0)
    return words[0]


def flags_of_all(*flags: bool) -> list[bool]:
    """Whether each flag is up on some process; all of them must ask. Nothing waits for a device."""
    if world_size() == 1:
        return list(flags)
    raised = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return [bool(flag) for flag in raised.tolist()]


def mistakes_of_all(own: Sequence[str]) -> list[str]:
    """What any process found wrong, each once; all of them must ask."""
    if not dist.is_initialized():
        return list(own)
    parts: list[list[str]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, list(own))
    return list(dict.fromkeys(mistake for part in parts for mistake in part))


def by_the_first(action: Callable[[], Any]) -> Any:
    """Done by the first process: what it finds, as `first_says`, or what it finds wrong, reaches all of them.

    Raises:
        UserError: as the action does.
    """
    mistakes: Sequence[str] = ()
    found = None
    if rank() == 0:
        try:
            found = action()
        except UserError as error:
            mistakes = error.mistakes
    mistakes = mistakes_of_all(mistakes)
    if mistakes:
        raise UserError(*mistakes)
    return first_says(found)


def _meeting_point() -> str:
    if "MASTER_ADDR" not in os.environ and "SLURM_STEP_NUM_TASKS" in os.environ:
        from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

        slurm = SLURMEnvironment(auto_requeue=False)
        return f"tcp://{slurm.main_address}:{slurm.main_port}"
    return "env://"
