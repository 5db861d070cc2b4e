"""A frozen network over many images: by onnxruntime where that is faster on this machine's CPUs, else by torch."""

import json
import logging
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from math import inf
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gemel.data.listing import cache_folder
from gemel.device import device
from gemel.engine.onnx_graph import PACKAGES, Graph, attempt, copy_of, random_images
from gemel.hashing import hash_of_question, hash_of_tensors
from gemel.runs.files import write_text

Engine = Literal["torch", "onnxruntime"]

Look = Callable[[Tensor], Tensor]
"""normalised floats (B, 3, H, W) -> features (B, d)"""

FEW = 64
"""images up to which nothing is measured: no network that people run on CPUs would gain much"""

LONG = 4.0
"""seconds of torch's work from which an export is worth trying"""

EXPORT, LOAD = 2.0, 0.5
"""seconds that must be gained where the graph is to be made, and where it lies in the cache"""

TRIAL = 8
"""images of a measured batch"""

_FORMAT = 1  # of the cache's files; another number for another way to export
_log = logging.getLogger(__name__)


def frozen(
    network: nn.Module, size: int, *, images: int | None = None, keep: bool = True, engine: Engine | None = None
) -> Look:
    """Return what gives a network's features: the network itself, or its graph in onnxruntime.

    The graph equals the network in evaluation mode to 1e-5 of the largest feature, which is proven on random images
    before it is used. It lies in the user's cache, by a hash of the network's tensors; a damaged one is made again.
    Where it fails the network itself is returned, and the log of debugging tells why.

    Args:
        network: in evaluation mode, and so as long as what is returned is used; its tensors must stay as they are.
        size: side of the images, pixels.
        images: how many will be seen; None: too many to count.
        keep: keep the graph in the user's cache; not that of a network that goes on learning.
        engine: what runs it; None: what `engine_for` chooses.
    """
    if (engine or engine_for(network, size, images=images, keep=keep)) == "torch":
        return network
    graph = attempt(lambda: _graph(network, size, keep=keep), "torch runs the network, as onnxruntime can't")
    return graph or network


def engine_for(network: nn.Module, size: int, *, images: int | None = None, keep: bool = True) -> Engine:
    """Return what runs a frozen network fastest, its preparation included.

    Both are measured with one small batch, once for each kind of network, size and number of threads. The seconds stay
    in the user's cache, so that the same question has the same answer from then on: the engines' features differ in
    the last digits. On a GPU, and where nothing can be kept, it is torch.

    Args:
        network: whatever its tensors hold.
        size: side of the images, pixels.
        images: how many will be seen; None: too many to count.
        keep: whether the graph is kept, or may lie in the cache already.
    """
    reason = _why_torch(network, images)
    if reason:
        _log.debug("torch runs the network: %s", reason)
        return "torch"
    many = inf if images is None else images
    found: Engine | None = attempt(lambda: _faster(network, size, many, keep=keep), "the engines can't be compared")
    return found or "torch"


def _why_torch(network: nn.Module, images: int | None) -> str:
    """Return why there is nothing to choose; empty if there is."""
    if images is not None and images <= FEW:
        return f"{images} images are few"
    if device().type != "cpu":
        return "there is a GPU"
    tensors = list(network.parameters())
    if not tensors or any(one.device.type != "cpu" or one.dtype != torch.float32 for one in tensors):
        return "it has no tensors of 32 bits in the CPU's memory"
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} is not installed"
    return "" if cache_folder() else "there is no folder for the user's cache"


def _faster(network: nn.Module, size: int, images: float, *, keep: bool) -> Engine:
    """Return the engine that needs less time for so many images.

    Raises:
        OSError: what was measured can't be kept: another process would measure, and might choose, otherwise.
    """
    versions = [version(name) for name in ("torch", *PACKAGES)]
    file = _folder() / f"{_kind(network, size, torch.get_num_threads(), *versions)}.json"
    seconds = _recalled(file)
    if "torch" not in seconds:
        copy: Any = copy_of(network)
        seconds["torch"] = _seconds(copy.to(memory_format=torch.channels_last), random_images(network, TRIAL, size))
        write_text(file, json.dumps(seconds))
    slow = seconds["torch"] or 0.0
    if images * slow <= LONG:
        return "torch"
    if "onnxruntime" not in seconds:
        graph = attempt(lambda: _graph(network, size, keep=keep), "onnxruntime can't run the network")
        seconds["onnxruntime"] = graph and _seconds(graph, random_images(network, TRIAL, size))
        write_text(file, json.dumps(seconds))
    fast = seconds["onnxruntime"]
    price = LOAD if keep and _graph_file(network, size).is_file() else EXPORT
    return "onnxruntime" if fast is not None and images * (slow - fast) > price else "torch"


def _graph(network: nn.Module, size: int, *, keep: bool) -> Graph:
    return Graph(network, size, _graph_file(network, size) if keep else None)


def _seconds(look: Look, images: Tensor) -> float:
    """Return the time of one image: the best of a few batches, or the first one's where they take long."""
    images = images.to(memory_format=torch.channels_last)
    best, begun = inf, time.perf_counter()
    with torch.no_grad():
        for _ in range(5):
            before = time.perf_counter()
            look(images)
            now = time.perf_counter()
            best = min(best, now - before)
            if now - begun > 0.5:
                break
    return best / len(images)


def _kind(network: nn.Module, size: int, *more: Any) -> str:
    """Return a hash of a network's structure, whatever its tensors hold."""
    shapes = [[name, list(value.shape)] for name, value in network.state_dict().items()]
    return hash_of_question([_FORMAT, type(network).__qualname__, repr(network), shapes, size, *more])


def _folder() -> Path:
    folder = cache_folder()
    assert folder is not None, "asked before"
    return folder / "frozen"


def _graph_file(network: nn.Module, size: int) -> Path:
    return _folder() / f"{_kind(network, size, hash_of_tensors(network.state_dict()))}.graph"


def _recalled(file: Path) -> dict[str, float | None]:
    """Return an image's seconds by engine, as far as they are known; None where the engine can't run the network."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {name: None if one is None else float(one) for name, one in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
