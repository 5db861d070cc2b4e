"""Checkpoints of a run, and its backbone: saved whole or not at all, read without running code."""

import errno
import hashlib
import pickle
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gemel import backbones
from gemel.backbones.base import Backbone
from gemel.errors import UserError
from gemel.launcher import launched
from gemel.runs.archive import is_whole
from gemel.runs.run import Run, write_atomically

KEYS = ("name", "stage", "step", "settings", "images", "identity", "processes", "method", "optimizer", "precision")
"""what a checkpoint holds; no random state, as every step draws from its own number"""


def _by_name(*_: object) -> str:
    """Stands for the function that early checkpoints of Barlow Twins name among the optimiser's settings."""
    return "exclude_bias_and_norm"


RELEASED = (Namespace, (_by_name, "__main__.exclude_bias_and_norm"))
"""what the authors' released checkpoints hold beside tensors, numbers and strings: flags, a function's name"""


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
    """The run's last checkpoint; None if it has none yet.

    Args:
        run: where it lies.
        say: is told if the one before has to do, as the last one is damaged or missing; None: it must not.

    Raises:
        UserError: the file is damaged or holds more than tensors, numbers and strings.
    """
    last, previous = run.checkpoint_path, run.previous_path
    if not last.is_file() and not previous.is_file():
        return None
    if not is_whole(last):
        why = f"{last} is {'damaged' if last.is_file() else 'missing'}"
        if not is_whole(previous):
            raise UserError(f"{why}, and none before it is whole; gemel pretrain --overwrite begins anew")
        if say is None:
            raise UserError(f"{why}; gemel resume {run.path} goes on from the one before it")
        state = _checked(run, previous)
        say(f"{why}: going on from {previous.name}, step {state['step']}")
        if launched().rank == 0:
            last.unlink(missing_ok=True)  # the next save must not put it in the whole one's place
        return state
    return _checked(run, last)


def _checked(run: Run, path: Path) -> dict[str, Any]:
    state = read_tensors(path)
    missing = [key for key in KEYS if key not in state]
    if missing:
        raise UserError(f"{path} is no checkpoint of gemel: {', '.join(missing)} missing")
    if state["name"] != run.settings["method"]["name"]:
        raise UserError(f"{path} is of {state['name']}, the run of {run.settings['method']['name']}")
    return state


def read_tensors(path: Path, *, allowed: Sequence[Any] = ()) -> dict[str, Any]:
    """A dictionary of tensors, numbers and strings from .safetensors or from torch's format; nothing is executed.

    Args:
        path: the file.
        allowed: what may stand in it too, as `torch.serialization.safe_globals` takes it.

    Raises:
        UserError: missing, damaged, or holding anything else.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file; give a run's folder, a .safetensors or a torch file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(allowed)):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        first = str(error).strip().split("\n")[0]
        if "weights_only" in first:  # torch advises to run what the file holds
            first = "it is none of torch's files, or holds objects that would have to be run"
        raise UserError(f"{path} can't be read as tensors, numbers and strings: {first}") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{path} holds a {type(loaded).__name__}, not a dictionary of tensors")
    return loaded


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
    """The run's backbone in evaluation mode: normalised floats (B, 3, H, W) to (B, width).

    Raises:
        UserError: the run has not ended yet.
    """
    facts = run.backbone_facts
    backbone = backbones.find(facts["name"])(**facts["options"])
    load_strictly(backbone.network, read_tensors(run.backbone_path), str(run.backbone_path))
    return backbone.eval()


def start_from(backbone: Backbone, weights: str) -> None:
    """Put weights from a run's folder or a file of tensors into a backbone; a teacher's where the file has one.

    Raises:
        UserError: it is neither, or tensors are missing or of other shapes.
    """
    path = Path(weights)
    if path.is_dir():
        run = Run(path)
        _ = run.backbone_facts  # refuses a run that has not ended
        path = run.backbone_path
    found = read_tensors(path, allowed=RELEASED)
    while not all(isinstance(value, Tensor) for value in found.values()):
        keys = ("teacher_backbone", "backbone", "state_dict", "model")
        inner = [found[key] for key in keys if isinstance(found.get(key), dict)]
        if not inner:
            raise UserError(f"--weights {weights} holds {', '.join(list(found)[:5])}, not a state dict of tensors")
        found = inner[0]
    names = set(backbone.network.state_dict())
    for prefix in ("", "module.", "backbone.", "module.backbone.", "network.", "backbone.network."):
        stripped = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
        if names & set(stripped):
            load_strictly(backbone.network, {k: v for k, v in stripped.items() if k in names}, weights)
            return
    raise UserError(f"--weights {weights}: none of its {len(found)} tensors is of the chosen --backbone")


def fingerprint(network: torch.nn.Module) -> str:
    """SHA-256 of a network's tensors, names included."""
    found = hashlib.sha256()
    for name, value in network.state_dict().items():
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def load_strictly(network: torch.nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Load every tensor of `network`.

    Raises:
        UserError: names are missing or unknown, or shapes differ; the first few are told.
    """
    wrong = differences(network, tensors)
    if wrong:
        raise UserError(f"{origin} does not fit the network ({len(wrong)} differences): {'; '.join(wrong[:5])}")
    network.load_state_dict(dict(tensors))


def differences(network: torch.nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Why a network would not load tensors strictly; empty if it would."""
    wanted = network.state_dict()
    wrong = [f"{name} is missing" for name in wanted if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in wanted]
    return wrong + [
        f"{name} is {tuple(value.shape)}, not {tuple(wanted[name].shape)}"
        for name, value in tensors.items()
        if name in wanted and wanted[name].shape != value.shape
    ]
