"""Checkpoints of a run, and its backbone: saved whole or not at all, read without running code."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gemel import backbones
from gemel.backbones.base import Backbone
from gemel.errors import UserError
from gemel.methods.base import Method
from gemel.runs import Run, write_atomically
from gemel.schema import convert
from gemel.settings import Settings
from gemel.train.build import build_method

KEYS = ("name", "stage", "step", "settings", "images", "method", "optimizer", "precision", "random")
"""what a checkpoint holds"""


def save(run: Run, state: Mapping[str, Any]) -> None:
    """Write checkpoints/last.ckpt; tensors, numbers and strings only, so that reading can refuse all else."""
    write_atomically(run.checkpoint_path, lambda temporary: torch.save(dict(state), temporary))


def load(run: Run) -> dict[str, Any] | None:
    """The run's last checkpoint; None if it has none yet.

    Raises:
        UserError: the file is damaged or holds more than tensors, numbers and strings.
    """
    if not run.checkpoint_path.is_file():
        return None
    state = read_tensors(run.checkpoint_path)
    missing = [key for key in KEYS if key not in state]
    if missing:
        raise UserError(f"{run.checkpoint_path} is no checkpoint of gemel: {', '.join(missing)} missing")
    if state["name"] != run.settings["method"]["name"]:
        raise UserError(f"{run.checkpoint_path} is of {state['name']}, the run of {run.settings['method']['name']}")
    return state


def read_tensors(path: Path) -> dict[str, Any]:
    """A dictionary of tensors, numbers and strings from .safetensors or from torch's format; nothing is executed.

    Raises:
        UserError: missing, damaged, or holding anything else.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file; give a run's folder, a .safetensors or a torch file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        first = str(error).strip().split("\n")[0]
        raise UserError(f"{path} can't be read as tensors, numbers and strings: {first}") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{path} holds a {type(loaded).__name__}, not a dictionary of tensors")
    return loaded


def save_backbone(run: Run, backbone: Backbone, facts: Mapping[str, Any]) -> None:
    """Write backbone.safetensors and backbone.json (name, options, width, size, mean, std)."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in backbone.network.state_dict().items()}
    # The tensors last: where they stand, the run has ended.
    run.write_json("backbone.json", dict(facts))
    write_atomically(run.backbone_path, lambda temporary: save_file(tensors, temporary))


def load_backbone(run: Run) -> Backbone:
    """The run's backbone in evaluation mode: normalised floats (B, 3, H, W) to (B, width).

    Raises:
        UserError: the run has not ended yet.
    """
    facts = run.backbone_facts
    backbone = backbones.find(facts["name"])(**facts["options"])
    load_strictly(backbone.network, read_tensors(run.backbone_path), str(run.backbone_path))
    return backbone.eval()


def load_method(run: Run) -> Method:
    """The run's method as trained, in evaluation mode: backbone and heads.

    Raises:
        UserError: the run has no checkpoint.
    """
    state = load(run)
    if state is None:
        raise UserError(f"{run.path} has no checkpoint; gemel resume {run.path} brings the run to its end")
    settings = Settings.model_validate(convert(Settings, run.settings, "run.yaml"))
    method = build_method(settings.model_copy(update={"weights": None}))
    load_strictly(method, state["method"], str(run.checkpoint_path))
    return method.eval()


def start_from(backbone: Backbone, weights: str) -> None:
    """Put weights from a run's folder or a file of tensors into a backbone.

    Raises:
        UserError: it is neither, or tensors are missing or of other shapes.
    """
    path = Path(weights)
    if path.is_dir():
        path = Run(path).backbone_path
    found = read_tensors(path)
    while not all(isinstance(value, Tensor) for value in found.values()):
        inner = [found[key] for key in ("backbone", "state_dict", "model") if isinstance(found.get(key), dict)]
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


def load_strictly(network: torch.nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Load every tensor of `network`.

    Raises:
        UserError: names are missing or unknown, or shapes differ; the first few are told.
    """
    wanted = network.state_dict()
    wrong = [f"{name} is missing" for name in wanted if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in wanted]
    wrong += [
        f"{name} is {tuple(value.shape)}, not {tuple(wanted[name].shape)}"
        for name, value in tensors.items()
        if name in wanted and wanted[name].shape != value.shape
    ]
    if wrong:
        raise UserError(f"{origin} does not fit the network ({len(wrong)} differences): {'; '.join(wrong[:5])}")
    network.load_state_dict(dict(tensors))
