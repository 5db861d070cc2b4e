"""Versions and hardware: what a number depends on beside the settings."""

import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gemel.device import device
from gemel.launcher import cores, launched

PACKAGES = ("torch", "torchvision", "lightning-fabric", "timm", "numpy", "pillow", "scikit-learn")


def environment(images: int, threads: int) -> dict[str, Any]:
    """What environment.json holds, for a run of so many images on so many threads."""
    return {
        "gemel": version("gemel"),
        "commit": _commit(),
        "python": platform.python_version(),
        "system": platform.platform(),
        **{package: version(package) for package in PACKAGES},
        "cores": cores(),
        "threads": threads,
        "device": torch.cuda.get_device_name() if device().type == "cuda" else "cpu",
        "processes": launched().processes,
        "images": images,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _commit() -> str:
    """Of the checkout that gemel runs from; an installed gemel may lie in somebody else's."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return "not in a checkout"
    try:
        words = ["git", "-C", str(root), "rev-parse", "HEAD"]
        found = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # git itself need not be there
        found = ""
    return found or "git does not tell"
