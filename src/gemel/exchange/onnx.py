"""The network as an ONNX graph, for programs without Python: features of images, and their classes."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gemel.backbones.base import Backbone
from gemel.engine.checkpoints import load_backbone, written
from gemel.errors import UserError
from gemel.evaluations.base import Subject
from gemel.evaluations.class_naming import class_groups
from gemel.evaluations.networks import open_subject
from gemel.exchange import output
from gemel.runs.class_names import read_names
from gemel.runs.files import write_atomically
from gemel.runs.run import Run

TOLERANCE = 1e-3
"""allowed difference between graph and network, as a share of the largest feature: sums round in another order"""

Shape = tuple[int, int, int]
"""channels, height and width of the images"""


class Classifying(nn.Module):
    """A backbone, and the class probabilities of its features.

    Args:
        backbone: normalised floats (B, C, H, W) to (B, width).
        subject: whose method discovers classes.
        names: of classes; those of one name count as one.
        classes: C, how many the method tells apart.
    """

    def __init__(self, backbone: Backbone, subject: Subject, names: Mapping[int, str], classes: int) -> None:
        super().__init__()
        self.backbone, self.method, self._subject = backbone, subject.method, subject
        numbers, group = class_groups(names, classes)
        self.numbers: list[int] = numbers.tolist()
        self.names = [names.get(one, str(one)) for one in self.numbers]
        joining = nn.functional.one_hot(group, len(numbers)).float()  # (C, classes of different names)
        self.register_buffer("joining", joining if len(numbers) < classes else torch.empty(0), persistent=False)
        self.joining: Tensor

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, width), and probabilities (B, classes of different names)."""
        features = self.backbone(images)
        found = self._subject.classify(features)
        assert found is not None
        return features, found @ self.joining if len(self.joining) else found


def export(run: Run, out: Path | None = None) -> Path:
    """Write a graph from `images`, normalised floats (batch, channels, size, size), to `features`, (batch, width).

    Of a run with classes also to `probabilities`, (batch, classes), and the likeliest class of each image: `class`, its
    number, and `name`, as `gemel classify` gives them; classes of one name count as one. The batch may be of any size;
    the side is the run's own. The graph's metadata `gemel` holds, as JSON, what backbone.json holds (name, width, size,
    mean, std, white, black, ...), and `classes`, number and name of each. onnxruntime's outputs for random images are
    compared with the network's before the file is written.

    Args:
        run: whose network it is.
        out: the file; None: RUN/<name of the backbone>.onnx.

    Raises:
        UserError: onnx, onnxscript or onnxruntime is not installed, or the run has no backbone yet.
        RuntimeError: the graph's outputs differ from the network's.
    """
    runtime = _runtime()
    facts = run.backbone_facts
    path = output(run, out, f"{facts['name']}.onnx", ".onnx")
    shape = (len(facts["mean"]), int(facts["size"]), int(facts["size"]))
    with torch.random.fork_rng():
        network = _network(run)
    graph = _graph(network, shape)
    if isinstance(network, Classifying):
        facts = {**facts, "classes": [list(one) for one in zip(network.numbers, network.names, strict=True)]}
    graph.model.metadata_props["gemel"] = json.dumps(facts)

    def write(temporary: Path) -> None:
        written(lambda: _save(graph, network, temporary), path)
        _compare(runtime.InferenceSession(temporary, providers=["CPUExecutionProvider"]), network, shape)

    write_atomically(path, write)
    return path


def _network(run: Run) -> nn.Module:
    """Return the run's backbone, with its classes where its method discovers some; in evaluation mode."""
    backbone, subject = load_backbone(run), open_subject(run)
    if subject.method is None:
        return backbone
    with torch.no_grad():
        classes = subject.classify(torch.zeros(1, backbone.width))
    if classes is None:
        return backbone
    return Classifying(backbone, subject, read_names(run), classes.shape[1]).eval()


def _runtime() -> ModuleType:
    try:
        import_module("onnx")
        import_module("onnxscript")
        return import_module("onnxruntime")
    except ImportError as error:
        raise UserError(
            f"gemel export RUN onnx needs the package {error.name}: pip install onnx onnxscript onnxruntime"
        ) from error


def _images(count: int, shape: Shape) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))


def _graph(network: nn.Module, shape: Shape) -> Any:
    outputs = ["features", "probabilities"] if isinstance(network, Classifying) else ["features"]
    return torch.onnx.export(
        network,
        (_images(2, shape),),
        input_names=["images"],
        output_names=outputs,
        dynamic_shapes=({0: "batch"},),
        dynamo=True,
        verbose=False,
    )


def _save(graph: Any, network: nn.Module, path: Path) -> None:
    """Write the graph; the names of classes, which no tensor of torch can hold, are looked up by nodes of their own."""
    if not isinstance(network, Classifying):
        graph.save(path)
        return
    onnx: Any = import_module("onnx")
    helper, kinds, model = onnx.helper, onnx.TensorProto, graph.model_proto
    count, names = [len(network.names)], [one.encode() for one in network.names]
    model.graph.initializer.append(helper.make_tensor("class_numbers", kinds.INT64, count, network.numbers))
    model.graph.initializer.append(helper.make_tensor("class_names", kinds.STRING, count, names))
    model.graph.node.append(helper.make_node("ArgMax", ["probabilities"], ["likeliest"], axis=1, keepdims=0))
    for table, name, kind in (("class_numbers", "class", kinds.INT64), ("class_names", "name", kinds.STRING)):
        model.graph.node.append(helper.make_node("Gather", [table, "likeliest"], [name], axis=0))
        model.graph.output.append(helper.make_tensor_value_info(name, kind, ["batch"]))
    onnx.save(model, path)


def _compare(session: Any, network: nn.Module, shape: Shape) -> None:
    images = _images(3, shape)  # not as many as were traced
    with torch.inference_mode():
        given = network(images)
    wanted = [one.numpy() for one in (given if isinstance(given, tuple) else (given,))]
    found = session.run(None, {"images": images.numpy()})
    for name, one, two in zip(("features", "probabilities"), found, wanted, strict=False):
        wrong = float(np.abs(one - two).max() / max(np.abs(two).max(), np.finfo(np.float32).tiny))
        if one.shape != two.shape or not wrong <= TOLERANCE:
            raise RuntimeError(f"the ONNX graph's {name} differ by {wrong:.1e} of the largest from the network's")
