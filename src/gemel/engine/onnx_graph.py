"""A network's ONNX graph in onnxruntime: made, proven to be the network's, and kept in the user's cache."""

import logging
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from hashlib import sha256
from importlib import import_module
from io import BytesIO
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from gemel.runs.files import write_atomically

T = TypeVar("T")

PACKAGES = ("onnx", "onnxruntime")
"""what this file imports, where it must: they take a second"""

TOLERANCE = 1e-5
"""allowed difference between graph and network, as a share of the largest feature: sums round in another order"""

AT_A_TIME = 8
"""images that a thread gives a graph at once: the maps of more fill the caches"""

KEPT_BYTES = 500_000_000
"""of graphs in the cache, beside the newest: those that were used last"""

OPSET = 17

UNTRACEABLE = (OSError, ImportError, RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError)
"""of files; of torch's exporter (RuntimeError), and of networks of anybody's that can't be copied or traced"""

_log = logging.getLogger(__name__)


class Graph:
    """A network's graph; images that it was not made for go through the network: of another size, under autocast.

    Args:
        network: in evaluation mode.
        size: side of the images, pixels.
        file: where the graph is kept, and taken from if it is there; None: nowhere.

    Raises:
        RuntimeError: the features differ, or torch can't export the network; else what the runtime or the network
            raises: see `attempt`.
    """

    def __init__(self, network: nn.Module, size: int, file: Path | None) -> None:
        self._network, self._shape = network, (channels_of(network), size, size)
        self._session = _opened(copy_of(network), size, file)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features (B, d) of normalised floats (B, C, H, W)."""
        fits = images.shape[1:] == self._shape and len(images) and images.dtype == torch.float32
        if not fits or images.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return self._network(images)
        threads = torch.get_num_threads()
        parts = images.detach().contiguous().split(min(AT_A_TIME, -(-len(images) // threads)))
        with ThreadPoolExecutor(threads) as pool:
            return torch.from_numpy(np.concatenate(list(pool.map(lambda part: _run(self._session, part), parts))))


def attempt(action: Callable[[], T], failed: str) -> T | None:
    """Return what the action returns; where it fails, None, and the log of debugging tells why."""
    try:
        return action()
    except _failures():
        _log.debug(failed, exc_info=True)
        return None


def _failures() -> tuple[type[Exception], ...]:
    """Return what the cache, the exporter and the runtime raise; the runtime's errors have no class in common."""
    state = sys.modules.get("onnxruntime.capi.onnxruntime_pybind11_state")  # not there: it can't have raised any
    own = [one for one in vars(state).values() if isinstance(one, type)] if state else []
    return (*UNTRACEABLE, *(one for one in own if issubclass(one, Exception)))


def random_images(network: nn.Module, count: int, size: int) -> Tensor:
    """Return images that a network takes, (count, C, size, size): the same ones each time."""
    return torch.randn(count, channels_of(network), size, size, generator=torch.Generator().manual_seed(0))


def channels_of(network: nn.Module) -> int:
    """Return the channels of the images that a network takes: a backbone says so."""
    return int(getattr(network, "in_channels", 3))


def copy_of(network: nn.Module) -> nn.Module:
    """Return a network in evaluation mode that can be traced and timed without a trace in the user's."""
    with torch.no_grad():
        copy: Any = deepcopy(network).requires_grad_(False).eval()
        return copy.to(memory_format=torch.contiguous_format)


def _opened(network: nn.Module, size: int, file: Path | None) -> Any:
    if file is not None and file.is_file():
        # damaged, or of another network of the same tensors and the same look
        session = attempt(lambda: _proven(_session(_read(file)), network, size), f"{file} is made again")
        if session is not None:
            return session
    graph = _exported(network, size)
    session = _proven(_session(graph), network, size)
    if file is not None:
        attempt(lambda: _write(file, graph), f"{file} can't be kept")
    return session


def _exported(network: nn.Module, size: int) -> bytes:
    """Return an ONNX graph from `images` to `features`, of any number of images.

    By torch's older exporter, which is quick; the newer one takes several times as long, and needs onnxscript too.
    """
    graph = BytesIO()
    with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # that there is a newer exporter; that sizes become constants, as they shall
        torch.onnx.export(
            network,
            (random_images(network, 2, size),),
            graph,  # pyright: ignore[reportArgumentType]
            input_names=["images"],
            output_names=["features"],
            dynamic_axes={"images": {0: "batch"}, "features": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return graph.getvalue()


def _session(graph: bytes) -> Any:
    """Return onnxruntime's session of a graph, which takes the thread that runs it.

    Threads that share an operation wait for the slowest of them, and other threads decode meanwhile.
    """
    runtime: Any = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors alone
    return runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _run(session: Any, images: Tensor) -> Any:
    return session.run(None, {"images": images.numpy()})[0]


def _proven(session: Any, network: nn.Module, size: int) -> Any:
    """Return the session, once its features of random images are the network's.

    Raises:
        RuntimeError: they differ.
    """
    images = random_images(network, 3, size)  # not as many as were traced
    with torch.no_grad():
        wanted = network(images).numpy()
    found, wrong = _run(session, images), inf
    if found.shape == wanted.shape:
        wrong = float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), np.finfo(np.float32).tiny))
    if not wrong <= TOLERANCE:
        raise RuntimeError(f"the graph's features differ by {wrong:.1e} of the largest from the network's")
    return session


def _read(file: Path) -> bytes:
    """Return a kept graph.

    Raises:
        ValueError: it is damaged.
    """
    data = file.read_bytes()
    graph = data[32:]
    if sha256(graph).digest() != data[:32]:
        raise ValueError(f"{file} is damaged")
    with suppress(OSError):  # somebody else's cache
        file.touch()
    return graph


def _write(file: Path, graph: bytes) -> None:
    """Keep a graph, behind its digest, and let go those that were not used for the longest time."""
    write_atomically(file, lambda path: path.write_bytes(sha256(graph).digest() + graph))
    others = [path for pattern in ("*.graph", ".*.part") for path in file.parent.glob(pattern) if path != file]
    kept = 0
    for _, length, path in sorted(((path.stat().st_mtime, path.stat().st_size, path) for path in others), reverse=True):
        kept += length
        if kept > KEPT_BYTES:
            path.unlink(missing_ok=True)
