"""A ResNet under Detectron2's names, for its detectors."""

import pickle
import re
from pathlib import Path

from gemel.exchange import output
from gemel.exchange.torchvision import resnet_tensors
from gemel.runs.files import write_atomically
from gemel.runs.run import Run

_STAGE = re.compile(r"^layer(\d)\.")


def export(run: Run, out: Path | None = None) -> Path:
    """Write what Detectron2's checkpointer loads into a detector's ResNet (its `MODEL.WEIGHTS`).

    The file is a pickle of `model`, arrays by name; `__author__`; and `matching_heuristics`, by which the names are
    found in any detector (Detectron2, checkpoint/detection_checkpoint.py). Its configuration has to say how these
    networks see images, and where they stride: docs/exchange.md.

    Args:
        run: whose backbone it is.
        out: the file; None: RUN/detectron2.pkl.

    Raises:
        UserError: the network is no ResNet as torchvision has it.
    """
    tensors = resnet_tensors(run, "Detectron2")
    path = output(run, out, "detectron2.pkl", ".pkl")
    model = {_renamed(name): value.numpy() for name, value in tensors.items()}
    content = pickle.dumps({"model": model, "__author__": "gemel", "matching_heuristics": True})
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    return path


def _renamed(name: str) -> str:
    """Return Detectron2's name: `layer1.0.bn2.weight` is `res2.0.conv2.norm.weight`; stages count from 2."""
    found = _STAGE.match(name)
    name = f"res{int(found[1]) + 1}.{name[found.end() :]}" if found else f"stem.{name}"
    name = name.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
    return re.sub(r"\bbn(\d)\.", r"conv\1.norm.", name)
