"""Which folder a new run gets, and that one process at a time trains in it."""

import fcntl
import re
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gemel.errors import UserError
from gemel.runs.run import RUN_FILE, Run, write_text


class Claim(NamedTuple):
    """The folder of a new run, checked but not made."""

    path: Path
    overwrite: bool = False
    """a run that stands there is replaced"""
    numbered: bool = False
    """nobody named it: it is the next free one"""


def claim(out: str | None, method: str, *, overwrite: bool) -> Claim:
    """The folder that the user named, else runs/METHOD-N with the next free number.

    Raises:
        UserError: it stands already, or is a file.
    """
    if out is None:
        return Claim(_next_number(method), numbered=True)
    path = Path(out)
    if path.is_dir() and not any(path.iterdir()):
        return Claim(path)
    if (path / RUN_FILE).is_file():
        if overwrite:
            return Claim(path, overwrite=True)
        raise UserError(f"--out {out} holds a run already; gemel resume {out} continues it, --overwrite replaces it")
    if path.exists():
        raise UserError(f"--out {out} is {'a folder that is not a run' if path.is_dir() else 'a file'}; name another")
    return Claim(path)


def create(claimed: Claim, settings: str) -> Run:
    """Make the folder of a run, run.yaml in it.

    Seconds lie between the claim and this: a number that another process took meanwhile is left to it.

    Raises:
        UserError: another process made a run there meanwhile or trains in it, or nothing can be written there.
    """
    path = claimed.path
    try:
        if claimed.overwrite and (path / RUN_FILE).is_file():
            with held(Run(path)):
                shutil.rmtree(path)
        path = _made(claimed)
        if (path / RUN_FILE).is_file():
            raise UserError(f"another process began a run in {path} meanwhile; name another folder with --out")
        write_text(path / RUN_FILE, settings)
    except OSError as error:
        raise UserError(f"the run's folder {path} can't be written: {error}; choose another with --out") from error
    return Run(path)


@contextmanager
def held(run: Run) -> Generator[None]:
    """With the run as this process's own; the system gives it back however the process ends.

    Raises:
        UserError: another process has it.
    """
    with (run.path / RUN_FILE).open("rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is training {run.path}; wait for its end, or stop it first") from error
        except OSError:  # a cluster's file system may know no locks: then nobody is refused
            pass
        yield


def _made(claimed: Claim) -> Path:
    path = claimed.path
    while True:
        try:
            path.mkdir(parents=True, exist_ok=not claimed.numbered)
            return path
        except FileExistsError:
            if not claimed.numbered:
                raise
            path = _next_number(path.name.rpartition("-")[0])


def _next_number(method: str) -> Path:
    numbers = [
        int(found.group(1))
        for path in Path("runs").glob(f"{method}-*")
        if (found := re.fullmatch(rf"{re.escape(method)}-(\d+)", path.name))
    ]
    return Path("runs") / f"{method}-{max(numbers, default=0) + 1}"
