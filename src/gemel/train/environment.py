"""Versions and hardware: what a number depends on beside the settings."""

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from gemel import __version__
from gemel.launched import launched

PACKAGES = ("torch", "torchvision", "lightning", "timm", "numpy", "pillow", "scikit-learn")


def environment(images: int) -> dict[str, Any]:
    """What environment.json holds; `images` is how many there are."""
    commit = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "gemel": __version__,
        "commit": commit or "not in a checkout",
        "python": platform.python_version(),
        "system": platform.platform(),
        **{package: version(package) for package in PACKAGES},
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "processes": launched().processes,
        "images": images,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
