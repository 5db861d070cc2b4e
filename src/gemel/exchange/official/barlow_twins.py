"""Barlow Twins' checkpoint.pth: epoch (finished ones), model, optimizer (LARS, `mu` a parameter).

Names of `model` begin with DDP's `module.`; beside it the released code writes the backbone's bare state dict.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gemel.errors import UserError
from gemel.exchange.official.layout import RESNETS, Tensors, Whole, below, save, steps_of_epoch
from gemel.runs.run import RUN_FILE

BACKBONE, PROJECTOR, NORM = "backbone.", "projector.", "bn."
OURS = {BACKBONE: "backbone.network.", PROJECTOR: "projector."}
"""beginnings of names there and here"""

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def fits(model: Mapping[str, Tensor]) -> bool:
    """Return whether these are Barlow Twins' names; VICReg's have no `bn`."""
    return all(any(name.startswith(part) for name in model) for part in (BACKBONE, PROJECTOR, NORM))


def recipe_of(network: str) -> str:
    """Return the one released recipe."""
    del network
    return "resnet50"


def read(found: Mapping[str, Any], model: Tensors, path: Path) -> Whole:
    """Return the checkpoint by gemel's names.

    Raises:
        UserError: a name is unknown.
    """
    tensors = tensors_of(model, path)
    matrices = {
        int(name.split(".")[1]): len(one)
        for name, one in tensors.items()
        if name.startswith("projector.") and one.ndim == 2
    }
    options = {"projector": [matrices[layer] for layer in sorted(matrices)]} if matrices else {}
    epoch = found.get("epoch")
    epochs = epoch if isinstance(epoch, int) else 0
    momenta = momenta_of(found.get("optimizer"), tensors)
    return Whole("barlow_twins", "resnet50", below(BACKBONE, model), tensors, options, epochs, momenta)


def write(settings: Mapping[str, Any], facts: Mapping[str, Any], state: Mapping[str, Any], path: Path) -> None:
    """Write checkpoint.pth, and beside it the bare backbone in a file of the network's name; no other is overwritten.

    Args:
        settings: of the run.
        facts: of its backbone.
        state: its checkpoint.
        path: the file.

    Raises:
        UserError: the run has parts that the official model lacks.
    """
    name = str(facts["name"]).partition(".")[0]
    if name not in {*RESNETS.values(), "resnet50w2"}:
        raise UserError(f"the official code of Barlow Twins has ResNets, not {name}")
    if settings["method"].get("projector_norm", "batch") != "batch":
        raise UserError("the official projector has batch norms; this run's --method.projector_norm is another")
    backbone = path.with_name(f"{name}.pth")
    if backbone == path:
        raise UserError(f"--out {path} is the name of the backbone's file, which is written beside it; choose another")
    if backbone.exists() and not (path.parent / RUN_FILE).is_file():  # in a run's folder it is of an earlier export
        backbone = path.with_name(f"{path.stem}-{name}.pth")
    content: dict[str, Any] = {
        "epoch": state["step"] // steps_of_epoch(state["images"], settings["batch_size"]),
        "model": {f"module.{key}": value for key, value in model_of(state["method"]).items()},
    }
    if settings["optimizer"]["name"] == "lars" and settings["optimizer"]["flavour"] == "L1":
        content["optimizer"] = _optimizer(settings["optimizer"], state["optimizer"])
    save(content, path)
    save(below(OURS[BACKBONE], state["method"]), backbone)


def tensors_of(model: Mapping[str, Tensor], path: Path) -> Tensors:
    """Return the tensors by the names of `BarlowTwins`, without the unused statistics of `bn`.

    Raises:
        UserError: a name is unknown.
    """
    found: Tensors = {}
    for name, tensor in model.items():
        part = next((part for part in (*OURS, NORM) if name.startswith(part)), None)
        if part is None:
            raise UserError(f"{path} holds {name}, which is no part of Barlow Twins' model: backbone, projector, bn")
        if part in OURS:
            found[OURS[part] + name.removeprefix(part)] = tensor
    return found


def model_of(own: Mapping[str, Tensor]) -> Tensors:
    """Return the tensors by official names, with the statistics of a fresh `bn`.

    Raises:
        UserError: the official model has no such part.
    """
    found: Tensors = {}
    for name, tensor in own.items():
        part = next((part for part, ours in OURS.items() if name.startswith(ours)), None)
        if part is None:
            raise UserError(f"{name} has no counterpart in the official model, which is a backbone and a projector")
        found[part + name.removeprefix(OURS[part])] = tensor
    width = [tensor for name, tensor in found.items() if name.startswith(PROJECTOR)][-1].shape[0]
    fresh = (torch.zeros(width), torch.ones(width), torch.tensor(0))
    return found | {NORM + name: tensor for name, tensor in zip(_BUFFERS, fresh, strict=True)}


def momenta_of(optimizer: Any, tensors: Mapping[str, Tensor]) -> Tensors:
    """Return LARS's momenta by names of parameters.

    They are numbered in the model's order; with two groups those of one dimension come after the others.
    """
    if not isinstance(optimizer, Mapping):
        return {}
    names = [name for name in tensors if name.rpartition(".")[2] not in _BUFFERS]
    if len(optimizer.get("param_groups", ())) > 1:
        names.sort(key=lambda name: tensors[name].ndim == 1)
    state = optimizer.get("state", {})
    return {name: state[number]["mu"] for number, name in enumerate(names) if "mu" in state.get(number, ())}


def _optimizer(settings: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    groups = [
        {
            "lr": group["lr"],
            "weight_decay": settings["weight_decay"],
            "momentum": group["momentum"],
            "eta": group["trust"],
            "weight_decay_filter": True,
            "lars_adaptation_filter": True,
            "params": group["params"],
        }
        for group in state["param_groups"]
    ]
    return {
        "state": {number: {"mu": one["momentum"]} for number, one in state["state"].items()},
        "param_groups": groups,
    }
