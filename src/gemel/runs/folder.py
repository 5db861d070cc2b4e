"""Which folder a new run gets, what of an old one is removed, and that one process at a time trains in it."""

import os
import re
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from gemel.errors import UserError, brief
from gemel.runs.files import write_text
from gemel.runs.run import RUN_FILE, Run

LOCK_FILE = ".lock"

OWN_FILES = (
    *("environment.json", "metrics.csv", "rejected.csv", "classes.parquet", "classes.yaml", "edits.json"),
    *("report.html", "explorer.html", "evaluations/map.parquet", "evaluations/live.json", "cache/explorer/sheet-*"),
    *("backbone.json", "backbone.safetensors", "checkpoints/last.ckpt", "checkpoints/previous.ckpt"),
    *("evaluations/*-*.json", "evaluations/gallery.json", "evaluations/bottleneck.json", "evaluations/.fit-*.ckpt"),
    *("left_out.csv", "check.csv", "evaluations/check.json", "evaluations/familiar.npz", "evaluations/kinds.json"),
    *("cache/finetune/*.json", "cache/*.lock", "tensorboard/events.out.tfevents.*", "replay-*.html"),
    *("wandb/debug*.log", "wandb/latest-run"),
    *("official.pth", "timm.safetensors", "torchvision.pth", "detectron2.pkl"),
    *(".*.part", "checkpoints/.*.part", "evaluations/.*.part"),
)
"""what gemel writes by itself into a run's folder, and into those of other networks below networks/"""

OWN_FOLDERS = ("cache/features/" + 24 * "[0-9a-f]", "wandb/offline-run-*-*", "wandb/run-*-*")
"""of cached features, and of a tracker, which hold nothing else"""


class Claim(NamedTuple):
    """The folder of a new run, checked but not made."""

    path: Path
    overwrite: bool = False
    """a run that is there is replaced"""
    numbered: bool = False
    """nobody named it: it is the next free one"""


def claim(out: str | None, method: str, *, overwrite: bool, inputs: Sequence[str | Path | None] = ()) -> Claim:
    """Return the folder that the user named, else runs/METHOD-N with the next free number.

    Args:
        out: the folder; None: the next free one.
        method: begins the folder's name.
        overwrite: a run that is there may be replaced.
        inputs: files and folders that the new run reads, none of which may lie in a folder that is overwritten; names
            of datasets and None are passed over.

    Raises:
        UserError: there is a run already, a file or another folder; or an input lies in it.
    """
    if out is None:
        return Claim(_next_number(method), numbered=True)
    path = Path(out)
    if path.is_dir() and not any(path.iterdir()):
        return Claim(path)
    if (path / RUN_FILE).is_file():
        if not overwrite:
            raise UserError(
                f"--out {out} holds a run already; gemel resume {out} continues it, --overwrite replaces it"
            )
        within = [str(one) for one in inputs if one is not None and _lies_in(one, path)]
        if within:
            what = brief(", ".join(within))
            raise UserError(f"--overwrite replaces --out {out}, in which {what} lies; name another folder with --out")
        return Claim(path, overwrite=True)
    if path.exists():
        raise UserError(f"--out {out} is {'a folder that is not a run' if path.is_dir() else 'a file'}; name another")
    return Claim(path)


def create(claimed: Claim, settings: str) -> Run:
    """Make the folder of a run, run.yaml in it.

    Seconds lie between the claim and this: a number that another process took meanwhile is left to it. Of a run that
    is overwritten gemel's own files are removed, and no others.

    Raises:
        UserError: another process made a run there meanwhile or trains in it, or nothing can be written there.
    """
    path = claimed.path
    try:
        if claimed.overwrite and (path / RUN_FILE).is_file():
            with held(Run(path)):
                _remove(path)
        path = _made(claimed)
        if (path / RUN_FILE).is_file():
            raise UserError(f"another process began a run in {path} meanwhile; name another folder with --out")
        write_text(path / RUN_FILE, settings)
    except OSError as error:
        raise UserError(f"the run's folder {path} can't be written: {error}; choose another with --out") from error
    return Run(path)


@contextmanager
def held(run: Run) -> Generator[None]:
    """Hold a run's folder for this process; the system gives it back however the process ends.

    Raises:
        UserError: another process holds it.
    """
    with exclusive(run.path / LOCK_FILE) as is_mine:
        if not is_mine:
            raise UserError(f"another process is training {run.path}; wait for its end, or stop it first")
        yield


@contextmanager
def exclusive(path: Path) -> Generator[bool]:
    """Hold a lock file, which no two processes hold at once; yield False where another process holds it.

    Where the file system knows no locks, or takes no files, nobody is kept out.
    """
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    is_mine = True
    try:
        lock.acquire(timeout=0)
    except Timeout:
        is_mine = False
    except (OSError, NotImplementedError):
        pass
    try:
        yield is_mine
    finally:
        lock.release()


def _lies_in(one: str | Path, folder: Path) -> bool:
    path = Path(os.path.expanduser(one))  # noqa: PTH111  Path's raises for a user that is not there
    return os.path.lexists(path) and path.resolve().is_relative_to(folder.resolve())


def _remove(path: Path) -> None:
    """Remove what gemel wrote into a run's folder; run.yaml is the last, so that a half-removed run is still one."""
    exports = _exports(path)
    for base in (path, *_own(path, "networks/*")):
        for folder in (one for pattern in OWN_FOLDERS for one in _own(base, pattern)):
            shutil.rmtree(folder)
        for file in (one for pattern in OWN_FILES for one in _own(base, pattern)):
            file.unlink()
    for file in exports:
        file.unlink(missing_ok=True)
    caches = ("cache/features", "cache/finetune", "cache/explorer", "cache")
    names = ("checkpoints", "evaluations", *caches, "tensorboard", "wandb")
    for pattern in (*(f"networks/*/{name}" for name in names), "networks/*", *names, "networks"):
        for folder in _own(path, pattern):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    (path / RUN_FILE).unlink()


def _own(path: Path, pattern: str) -> list[Path]:
    """Return what matches below a folder, without what links put there."""
    within = [found for found in path.glob(pattern) if found.parent.resolve().is_relative_to(path.resolve())]
    return [found for found in within if not (found.is_dir() and found.is_symlink())]


def _exports(path: Path) -> list[Path]:
    """Return the files, called as the network is, that `gemel export` writes into the run's folder."""
    try:
        name = Run(path).backbone_facts["name"]
    except UserError:
        return []
    return [path / f"{name}{suffix}" for suffix in (".safetensors", ".json", ".pth", ".onnx")]


def _made(claimed: Claim) -> Path:
    path = claimed.path
    while True:
        try:
            path.mkdir(parents=True, exist_ok=not claimed.numbered)
            return path
        except FileExistsError:
            following = _next_number(path.name.rpartition("-")[0])
            if not claimed.numbered or following == path:  # `runs` itself is in the way
                raise
            path = following


def _next_number(method: str) -> Path:
    folder = Path("runs")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    numbers = [int(found[1]) for name in names if (found := re.fullmatch(rf"{re.escape(method)}-(\d{{1,9}})", name))]
    return folder / f"{method}-{max(numbers, default=0) + 1}"
