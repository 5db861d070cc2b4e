"""Processes that start in a moment: forked from one that has imported the libraries, and otherwise like any other."""

import os
import resource
import runpy
import socket
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing import current_process, get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

FORKED = get_context("forkserver")
FORKED.set_forkserver_preload(
    [
        "pytest",
        "torch._dynamo",  # the first step of an optimiser brings it
        "torch.distributed.launcher.api",
        "sklearn.datasets",
        "sklearn.cluster",
        "numba.cpython.charseq",  # its first compiled function brings it
        "gemel.cli.app",
        "gemel.training.train",
        "gemel.supervised.fit",
        "gemel.evaluations.after_training",
        "gemel.reports.build",
        "gemel.request.resolve",
        "gemel.methods.twist",
    ]
)


def together(processes: int, work: Callable[..., Any], *given: Any) -> list[Any]:
    """Return what `work(*given)` gives on each process of a group, by rank: tensors, numbers and collections of them.

    Args:
        processes: of the group.
        work: a function of a module.
        given: what it is called with.
    """
    with TemporaryDirectory() as folder:
        mp.start_processes(  # pyright: ignore[reportPrivateImportUsage]
            _member, (processes, folder, work, given), nprocs=processes, start_method="forkserver"
        )
        return [torch.load(f"{folder}/{rank}.pt", weights_only=True) for rank in range(processes)]


def _member(rank: int, processes: int, folder: str, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(processes)}
    os.environ |= {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(processes)}
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes)
    torch.save(work(*given), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


class Started:
    """A function of a module in a process of its own, mostly a command: what it prints, its end, signals on its way.

    Args:
        work: what is run; its exit code is the process's.
        given: what it is called with.
        environment: variables beside those of the tests.
        largest: bytes of a file that it may write; stands for a full disk.
    """

    def __init__(
        self,
        work: Callable[..., Any],
        *given: Any,
        environment: Mapping[str, str] | None = None,
        largest: int | None = None,
    ) -> None:
        self._folder = TemporaryDirectory()
        self._printed = [Path(self._folder.name) / name for name in ("out", "errors")]
        work_and_given = (self._printed, dict(environment or {}), largest, work, given)
        self._process = FORKED.Process(target=_printing, args=work_and_given, daemon=True)
        self._process.start()

    def wait_until(self, condition: Callable[[], Any], seconds: float = 120.0) -> None:
        """Wait for a condition; the process may not end before."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._process.exitcode is None, f"ended too early: {self.printed()}"
            assert time.monotonic() < deadline, f"waited {seconds} seconds in vain; printed: {self.printed()}"
            time.sleep(0.01)

    def send(self, signal: int) -> None:
        """Send a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal)

    def end(self, seconds: float = 120.0) -> tuple[int, str, str]:
        """Wait for the end; return exit code, output and errors."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"not done after {seconds} seconds"
        out, errors = (file.read_text(encoding="utf-8") for file in self._printed)
        self._folder.cleanup()
        return self._process.exitcode, out, errors

    def printed(self) -> str:
        """Return output and errors up to now."""
        return "".join(file.read_text(encoding="utf-8") for file in self._printed if file.is_file())


def command(*words: str, **options: Any) -> Started:
    """Start `gemel WORDS` as a shell does."""
    return Started(_command, *words, **options)


def script(file: Path, *words: str, folder: Path) -> Started:
    """Start `python FILE WORDS` in a folder."""
    return Started(_script, file, words, folder)


def pair(*words: str) -> list[Started]:
    """Start `gemel WORDS` as two processes, as a launcher does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [command(*words, environment=shared | {"RANK": rank, "LOCAL_RANK": rank}) for rank in "01"]


def _command(*words: str) -> None:
    from gemel.cli import main

    sys.argv[1:] = words
    main()


def _script(file: Path, words: tuple[str, ...], folder: Path) -> None:
    os.chdir(folder)
    sys.path.insert(0, str(file.parent))
    sys.argv[:] = [str(file), *words]
    runpy.run_path(str(file), run_name="__main__")


def _printing(
    printed: list[Path],
    environment: Mapping[str, str],
    largest: int | None,
    work: Callable[..., Any],
    given: tuple[Any, ...],
) -> None:
    for number, file in enumerate(printed, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    current_process().daemon = False  # the tests' end ends it, and it may start others
    os.environ |= environment
    torch.set_num_threads(1)
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    work(*given)
