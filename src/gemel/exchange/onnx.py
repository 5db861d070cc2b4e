"""The backbone as an ONNX graph, for programs without Python."""

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from gemel.backbones.base import Backbone
from gemel.engine.checkpoints import load_backbone, written
from gemel.errors import UserError
from gemel.exchange import output
from gemel.runs.run import Run, write_atomically

TOLERANCE = 1e-3
"""allowed difference between graph and network, as a share of the largest feature: sums round in another order"""


def export(run: Run, out: Path | None = None) -> Path:
    """Write a graph from `images`, normalised floats (batch, 3, size, size), to `features`, (batch, width).

    The batch may be of any size; the side is the run's own. The graph's metadata `gemel` holds, as JSON, what
    backbone.json holds: name, width, size, mean, std. onnxruntime's features of random images are compared with the
    network's before the file is written.

    Args:
        run: whose backbone it is.
        out: the file; None: RUN/<name of the backbone>.onnx.

    Raises:
        UserError: onnx, onnxscript or onnxruntime is not installed, or the run has no backbone yet.
        RuntimeError: the graph's features differ from the network's.
    """
    runtime = _runtime()
    facts = run.backbone_facts
    path = output(run, out, f"{facts['name']}.onnx", ".onnx")
    with torch.random.fork_rng():
        backbone = load_backbone(run)
    graph = _graph(backbone, int(facts["size"]))
    graph.model.metadata_props["gemel"] = json.dumps(facts)

    def write(temporary: Path) -> None:
        written(lambda: graph.save(temporary), path)
        _compare(runtime.InferenceSession(temporary, providers=["CPUExecutionProvider"]), backbone, int(facts["size"]))

    write_atomically(path, write)
    return path


def _runtime() -> ModuleType:
    try:
        import_module("onnx")
        import_module("onnxscript")
        return import_module("onnxruntime")
    except ImportError as error:
        raise UserError(
            f"gemel export RUN onnx needs the package {error.name}: pip install onnx onnxscript onnxruntime"
        ) from error


def _images(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def _graph(backbone: Backbone, size: int) -> Any:
    return torch.onnx.export(
        backbone,
        (_images(2, size),),
        input_names=["images"],
        output_names=["features"],
        dynamic_shapes=({0: "batch"},),
        dynamo=True,
        verbose=False,
    )


def _compare(session: Any, backbone: Backbone, size: int) -> None:
    images = _images(3, size)  # not as many as were traced
    with torch.inference_mode():
        wanted = backbone(images).numpy()
    found = session.run(None, {"images": images.numpy()})[0]
    wrong = float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), np.finfo(np.float32).tiny))
    if found.shape != wanted.shape or not wrong <= TOLERANCE:
        raise RuntimeError(f"the ONNX graph's features differ by {wrong:.1e} of the largest from the network's")
