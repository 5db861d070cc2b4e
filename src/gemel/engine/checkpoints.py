"""Checkpoints of a run, and its backbone: saved whole or not at all, read without running code."""

import errno
import pickle
import re
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gemel import backbones
from gemel.backbones.base import Backbone, first_line
from gemel.errors import UserError, brief
from gemel.launcher import launched
from gemel.runs.archive import is_whole
from gemel.runs.files import write_atomically
from gemel.runs.run import Run
from gemel.settings.schema import convert, schema_of

KEYS = ("name", "stage", "step", "settings", "images", "identity", "processes", "method", "optimizer", "precision")
"""what a checkpoint holds; no random state, as every step draws from its own number"""

_UNREADABLE = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    struct.error, OverflowError, MemoryError,
)  # fmt: skip
"""what torch's reader raises for other bytes than its own"""


def save(run: Run, state: Mapping[str, Any]) -> None:
    """Write checkpoints/last.ckpt; tensors, numbers and strings only, so that reading can refuse all else.

    The one before becomes previous.ckpt, and stays until the next one is whole on the disk.
    """

    def write(temporary: Path) -> None:
        written(lambda: torch.save(dict(state), temporary), run.checkpoint_path)
        if run.checkpoint_path.is_file():
            run.checkpoint_path.replace(run.previous_path)

    write_atomically(run.checkpoint_path, write)


def load(run: Run, say: Callable[[str], None] | None = None) -> dict[str, Any] | None:
    """Return the run's last good checkpoint; None if it has none yet.

    Args:
        run: where it lies.
        say: is told if the one before is taken, as the last one is damaged, missing or not finite; None: it must not.

    Raises:
        UserError: no checkpoint is good, or the file holds more than tensors, numbers and strings.
    """
    last, previous = run.checkpoint_path, run.previous_path
    if not last.is_file() and not previous.is_file():
        return None
    state, why = _good(run, last)
    if state is not None:
        return state
    state, _ = _good(run, previous)
    if state is None:
        raise UserError(f"{why}, and none before it is whole and finite; gemel pretrain --overwrite begins anew")
    if say is None:
        raise UserError(f"{why}; gemel resume {run.path} goes on from the one before it")
    say(f"{why}: going on from {previous.name}, step {state['step']}")
    if launched().rank == 0:
        last.unlink(missing_ok=True)  # the next save must not put it in the good one's place
    return state


def newest(run: Run, most: int | None = None) -> dict[str, Any] | None:
    """Return the newest good checkpoint, of at most `most` steps; None: there is none. Nothing is changed.

    Raises:
        UserError: a file holds more than tensors, numbers and strings, or is of another method.
    """
    for path in (run.checkpoint_path, run.previous_path):
        state, _ = _good(run, path)
        if state is not None and (most is None or state["step"] <= most):
            return state
    return None


def _good(run: Run, path: Path) -> tuple[dict[str, Any] | None, str]:
    """Return a checkpoint that is whole and finite, or why it is not."""
    if not is_whole(path):
        return None, f"{path} is {'damaged' if path.is_file() else 'missing'}"
    state = _checked(run, path)
    broken = not_finite(state["method"])
    return (None, f"{path} holds NaN or infinite values ({', '.join(broken[:3])})") if broken else (state, "")


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of tensors that hold NaN or infinite values."""
    return [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]


def _checked(run: Run, path: Path) -> dict[str, Any]:
    state = read_tensors(path)
    missing = [key for key in KEYS if key not in state]
    if missing:
        raise UserError(f"{path} is no checkpoint of gemel: {', '.join(missing)} missing")
    if state["name"] != run.method_name:
        raise UserError(f"{path} is of {state['name']}, the run of {run.method_name}")
    return state


def read_tensors(path: Path, *, allowed: Sequence[Any] = ()) -> dict[str, Any]:
    """Read a dictionary of tensors, numbers and strings from .safetensors or from torch's format; nothing is executed.

    Args:
        path: the file.
        allowed: what else may stand in it, as `torch.serialization.safe_globals` takes it.

    Raises:
        UserError: missing, damaged, or holding anything else.
    """
    if not path.is_file():
        raise UserError(f"{brief(str(path))} is not a file; give a run's folder, a .safetensors or a torch file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats, and of programs in TorchScript
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, *_UNREADABLE) as error:
        raise UserError(f"{brief(str(path))} can't be read as tensors: {_reason(path, error)}") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{brief(str(path))} holds a {type(loaded).__name__}, not a dictionary of tensors")
    return loaded


def _reason(path: Path, error: Exception) -> str:
    """Return one plain sentence; torch advises to run what the file holds, in several paragraphs."""
    text = str(error)
    foreign = re.search(r"GLOBAL ([\w.]+)", text)
    if isinstance(error, OSError):
        return error.strerror or text
    if foreign and foreign[1].startswith("numpy"):
        return "it holds NumPy arrays; save tensors, as torch.from_numpy(array) makes them"
    if foreign:
        return f"it holds {foreign[1]}, which would have to be run; save a state_dict of tensors instead"
    if "TorchScript" in text:
        return "it is a TorchScript program; save its state_dict() instead"
    with path.open("rb") as file:
        if isinstance(error, SafetensorError) or file.read(2) == b"PK":
            return f"it is damaged or cut short ({brief(first_line(error))})"
    return "it is not a file that torch.save wrote, or it is damaged"


def save_backbone(run: Run, backbone: Backbone, facts: Mapping[str, Any]) -> None:
    """Write backbone.safetensors and backbone.json (name, options, width, size, mean, std)."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in backbone.network.state_dict().items()}
    # The tensors last: where they stand, the run has ended.
    run.write_json("backbone.json", dict(facts))
    path = run.backbone_path
    write_atomically(path, lambda temporary: written(lambda: save_file(tensors, temporary), path))


def written(write: Callable[[], object], path: Path) -> None:
    """Call `write`, which writes to `path`; torch and safetensors hide the system's refusal in exceptions of their own.

    Raises:
        OSError: the disk is full, or refuses.
    """
    try:
        write()
    except (RuntimeError, SafetensorError) as error:
        raise OSError(errno.EIO, "can't be written: the disk is full, or a limit is reached", str(path)) from error


def load_backbone(run: Run) -> Backbone:
    """Return the run's backbone in evaluation mode: normalised floats (B, 3, H, W) to (B, width).

    Raises:
        UserError: the run has not ended yet, or its files are damaged.
    """
    facts = run.backbone_facts
    constructor = backbones.find(facts["name"], facts["size"])
    options = convert(schema_of(constructor), facts["options"], "backbone.json")
    if options.get("pretrained"):
        options["pretrained"] = False  # the run's own tensors follow
    backbone = constructor(**options)
    load_strictly(backbone.network, read_tensors(run.backbone_path), str(run.backbone_path))
    return backbone.eval()


def load_strictly(network: torch.nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Load every tensor of a network.

    Raises:
        UserError: names are missing or unknown, or shapes differ; the first few are reported.
    """
    wrong = differences(network, tensors)
    if wrong:
        raise UserError(f"{origin} does not fit the network ({len(wrong)} differences): {'; '.join(wrong[:5])}")
    network.load_state_dict(dict(tensors))


def differences(network: torch.nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Return why a network would not load tensors strictly; empty if it would."""
    wanted = network.state_dict()
    wrong = [f"{name} is missing" for name in wanted if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in wanted]
    return wrong + [
        f"{name} is {tuple(value.shape)}, not {tuple(wanted[name].shape)}"
        for name, value in tensors.items()
        if name in wanted and wanted[name].shape != value.shape
    ]
