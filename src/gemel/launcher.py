"""How many processes a launcher started, and which one this is; what a machine gives it; no torch."""

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gemel.errors import UserError

REQUEUE: int | None = getattr(signal, "SIGUSR1", None)
"""what a SLURM job asks for shortly before its time is over: sbatch --signal=USR1@120; Windows has no such signal"""

UNKNOWN_MEMORY = 8 * 2**30
"""bytes that are counted on where the system does not tell how many there are"""


class Launched(NamedTuple):
    """This process among those that a launcher started together."""

    rank: int
    """from 0, over all machines"""
    processes: int
    """over all machines"""
    local_rank: int
    """from 0, on this machine"""
    local_processes: int
    """on this machine"""


def launched(environment: Mapping[str, str] = os.environ) -> Launched:
    """What torchrun's variables say, else those of a SLURM step; a process started by hand is alone.

    Raises:
        UserError: the variables are no numbers, or contradict each other.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    # Only a step's own processes (srun) have this one; in a batch script SLURM_NTASKS speaks of steps to come.
    if "WORLD_SIZE" not in environment and "SLURM_STEP_NUM_TASKS" in environment:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE")
    rank, processes, local_rank = (_number(environment, name, "01"[name == names[1]]) for name in names[:3])
    # SLURM writes 4(x2): four on each of two machines
    per_machine = environment.get(names[3], str(processes)).partition("(")[0]
    local_processes = _number({names[3]: per_machine}, names[3], "1")
    if not 0 <= rank < processes or not 0 <= local_rank < local_processes or processes % local_processes:
        raise UserError(
            f"the launcher's variables contradict each other: {names[0]} {rank} of {names[1]} {processes}, "
            f"{names[2]} {local_rank} of {local_processes} on this machine; every machine runs equally many"
        )
    return Launched(rank, processes, local_rank, local_processes)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's."""
    found = UNKNOWN_MEMORY
    if hasattr(os, "sysconf"):  # not on Windows
        found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no container, or one without a limit
        found = min(found, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return found


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process speaks for all; asked even where the launcher's variables are at fault."""
    return environment.get("RANK", environment.get("SLURM_PROCID", "0")) == "0"


def _number(environment: Mapping[str, str], name: str, default: str) -> int:
    try:
        return int(environment.get(name, default))
    except ValueError as error:
        raise UserError(f"the launcher's variable {name} is {environment[name]!r}, not a number") from error


def requeue() -> None:
    """Put the SLURM job back in the queue; its script goes on with gemel resume."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        failed = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        failed = str(error)
    print(f"requeue of job {job}: {failed or 'asked for'}", flush=True)
