"""TWIST's checkpoint.pth of both ages: model, backbone, epoch (the last finished one, from 0), args; a teacher."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gemel.errors import UserError
from gemel.exchange.official.layout import TRANSFORMERS, Tensors, Whole, below, network_of, save, steps_of_epoch
from gemel.exchange.official.layout import tensors_of as state_dict_of

BACKBONE, HEADS = "backbone.", "projection_heads."
"""beginnings of their names"""

_LAST, _NORM, _LAYERS = f"{HEADS}last_linear", f"{HEADS}norm", f"{HEADS}projection_head"
_OLDER = {f"{HEADS}cls_heads.0.0": _LAST, f"{HEADS}cls_heads.0.1": _NORM}
"""names of older files, and what they became"""

_PARTS = {**{f"{_LAYERS}.{theirs}": f"layers.{ours}" for theirs, ours in ((0, 0), (1, 1), (4, 3), (5, 4))},
          _LAST: "layers.6", _NORM: "norm"}  # fmt: skip
"""parts of the head there (3 is a dropout) and in `ClassHead`"""

_RECIPES = {"resnet50w2": "resnet50w2", "vit_base_patch16_224": "vit-base"}


def fits(model: Mapping[str, Tensor]) -> bool:
    """Return whether these are TWIST's names."""
    return any(name.startswith(HEADS) for name in model)


def recipe_of(network: str) -> str:
    """Return the published recipe of a network, or the nearest to it."""
    return _RECIPES.get(network, "deit-small" if network in TRANSFORMERS.values() else "resnet50")


def read(found: Mapping[str, Any], model: Tensors, path: Path) -> Whole:
    """Return the checkpoint by gemel's names.

    Raises:
        UserError: a name is unknown, or the head is not whole.
    """
    tensors = tensors_of(model, path)
    classes, hidden = (len(tensors[f"heads.0.layers.{layer}.weight"]) for layer in (6, 0))
    teacher = found.get("teacher")
    if teacher is not None:
        for name, value in tensors_of(state_dict_of(teacher, path), path).items():
            number, prefix = (0, "backbone.") if name.startswith("backbone.") else (1, "heads.")
            tensors[f"teacher.networks.{number}.{name.removeprefix(prefix)}"] = value
    tensors["head_losses"] = torch.zeros(1)
    backbone = below("backbone.network.", tensors)
    network = network_of(backbone, path)["name"]
    options: dict[str, Any] = {"classes": classes, "hidden": hidden, "norm": "heads.0.norm.running_mean" in tensors}
    options |= {"teacher": teacher is not None}
    if teacher is not None or network in TRANSFORMERS.values():
        options["head_style"] = "transformer"
    recipe = recipe_of(network)
    if recipe == "resnet50" and getattr(found.get("args"), "aug", None) == "multicrop":
        recipe = "resnet50-multicrop"
    epoch = found.get("epoch")
    return Whole("twist", recipe, backbone, tensors, options, epoch + 1 if isinstance(epoch, int) else 0)


def write(settings: Mapping[str, Any], facts: Mapping[str, Any], state: Mapping[str, Any], path: Path) -> None:
    """Write checkpoint.pth: without the optimiser; one head fits, and of joined classes the finer ones.

    Args:
        settings: of the run.
        facts: of its backbone.
        state: its checkpoint.
        path: the file.
    """
    del facts
    own: Tensors = state["method"]
    best = int(own.get("consensus.share", -own["head_losses"]).argmax())  # of a consensus the first of its heads
    epochs = state["step"] // steps_of_epoch(state["images"], settings["batch_size"])
    content: dict[str, Any] = {
        "epoch": epochs - 1,
        "args": Namespace(),
        "model": model_of(own, "backbone.network.", f"heads.{best}."),
        "backbone": below("backbone.network.", own),
    }
    teacher = below("teacher.networks.0.network.", own)
    if teacher:
        content["teacher"] = model_of(own, "teacher.networks.0.network.", f"teacher.networks.1.{best}.")
        content["teacher_backbone"] = teacher
    save(content, path)


def tensors_of(model: Mapping[str, Tensor], path: Path) -> Tensors:
    """Return the tensors by the names of `Twist` with one head.

    Raises:
        UserError: a name is unknown, or the head is not whole.
    """
    found = below(BACKBONE, model, put="backbone.network.")
    for name, value in model.items():
        module, _, last = name.rpartition(".")
        module = _OLDER.get(module, module)
        if module in _PARTS:
            found[f"heads.0.{_PARTS[module]}.{last}"] = value
        elif not name.startswith(BACKBONE):
            raise UserError(f"{path} holds {name}, which no known form of TWIST's head has")
    missing = [layer for layer in (0, 3, 6) if f"heads.0.layers.{layer}.weight" not in found]
    if missing:
        raise UserError(f"{path} holds no whole head of TWIST: layers {missing} are missing")
    return found


def model_of(own: Mapping[str, Tensor], backbone: str, head: str) -> Tensors:
    """Return the tensors below `backbone` and `head` by official names."""
    found = below(backbone, own, put=BACKBONE)
    official = {ours: theirs for theirs, ours in _PARTS.items()}
    for name, value in below(head, own).items():
        module, _, last = name.rpartition(".")
        found[f"{official[module]}.{last}"] = value
    return found
