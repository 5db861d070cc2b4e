"""The files of facebookresearch/barlowtwins: checkpoint.pth and resnet50.pth, to a run and from one.

checkpoint.pth: epoch (finished ones), model (names below `module.`) and optimizer (LARS, `mu` a parameter).
resnet50.pth: the backbone's bare state dict, which `gemel pretrain --weights FILE` reads too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gemel.errors import UserError
from gemel.methods.barlow_twins import BarlowTwins
from gemel.methods.parts.barlow_recipes import RECIPES
from gemel.recipes import LarsOptimizer
from gemel.runs import Run, claim_folder, create, write_atomically
from gemel.schema import convert, schema_of
from gemel.settings import Settings, render
from gemel.train import checkpoints, optimizers
from gemel.train.build import build_backbone, build_method

BACKBONE, PROJECTOR, NORM = "module.backbone.", "module.projector.", "module.bn."
OURS = {BACKBONE: "backbone.network.", PROJECTOR: "projector."}
"""beginnings of names there and here"""


def read(path: str | Path) -> dict[str, Any]:
    """A file of theirs, without running code.

    Checkpoints of the first releases name a function of their script among the optimiser's settings; it is read as
    its name.

    Raises:
        UserError: missing, damaged, or holding anything else.
    """
    with torch.serialization.safe_globals([(_by_name, "__main__.exclude_bias_and_norm")]):
        return checkpoints.read_tensors(Path(path))


def reads(state: Mapping[str, Any]) -> bool:
    """Whether this is a checkpoint.pth of Barlow Twins; VICReg's has no `bn`."""
    model = state.get("model")
    if not isinstance(model, Mapping):
        return False
    return all(any(str(name).startswith(part) for name in model) for part in (BACKBONE, PROJECTOR, NORM))


def reads_backbone(state: Mapping[str, Any]) -> bool:
    """Whether this is a residual network's bare state dict, as resnet50.pth is; of which method nothing tells."""
    return {"conv1.weight", "layer4.0.conv1.weight"} <= set(state) and "fc.weight" not in state


def tensors_of(model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of gemel's method for those of `model`; the statistics of `bn`, which are used nowhere, are left out.

    Raises:
        UserError: names that are neither of backbone, projector nor bn.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in model.items():
        part = next((part for part in (*OURS, NORM) if name.startswith(part)), None)
        if part is None:
            raise UserError(f"{name} is no part of Barlow Twins' model; it has {BACKBONE}*, {PROJECTOR}* and {NORM}*")
        if part in OURS:
            found[OURS[part] + name.removeprefix(part)] = tensor
    return found


def model_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `tensors_of`; `bn` gets the statistics that a fresh one has.

    Raises:
        UserError: the method has parts that the official model lacks.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        part = next((part for part, own in OURS.items() if name.startswith(own)), None)
        if part is None:
            raise UserError(f"{name} has no place in the official model, which is a backbone and a projector")
        found[part + name.removeprefix(OURS[part])] = tensor
    width = [tensor for name, tensor in found.items() if name.startswith(PROJECTOR)][-1].shape[0]
    found[f"{NORM}running_mean"], found[f"{NORM}running_var"] = torch.zeros(width), torch.ones(width)
    found[f"{NORM}num_batches_tracked"] = torch.tensor(0)
    return found


def to_run(
    state: Mapping[str, Any], out: str | Path | None, *, images: str = "imagenet", backbone: str = "resnet50"
) -> Run:
    """A run with the released recipe's settings: backbone.safetensors, and a checkpoint where there are heads.

    Args:
        state: of checkpoint.pth or resnet50.pth, as `read` gives it.
        out: the run's folder; None: the next free one.
        images: what run.yaml says that it was trained on; evaluations open them unless told otherwise.
        backbone: name of the residual network.

    Raises:
        UserError: it is neither file, tensors are missing or of other shapes, or the folder is taken.
    """
    folder = claim_folder(None if out is None else str(out), "barlow_twins", overwrite=False)
    whole = reads(state)
    if not whole and not reads_backbone(state):
        raise UserError("this is neither checkpoint.pth nor resnet50.pth of facebookresearch/barlowtwins")
    tensors = tensors_of(state["model"]) if whole else {}
    projector = [len(tensor) for tensor in tensors.values() if tensor.ndim == 2] or None
    settings = _settings(images, backbone, projector)
    if not whole:
        network = build_backbone(settings)
        checkpoints.load_strictly(network.network, state, "the file")
        run = create(folder, render(settings.model_dump()))
        checkpoints.save_backbone(run, network, _facts(settings, network.width))
        return run
    method = build_method(settings)
    checkpoints.load_strictly(method, tensors, "the checkpoint")
    checkpoint = _checkpoint(settings, method, state)
    run = create(folder, render(settings.model_dump()))
    checkpoints.save(run, checkpoint)
    checkpoints.save_backbone(run, method.backbone, _facts(settings, method.backbone.width))
    return run


def to_official(run: Run) -> dict[str, Any]:
    """What checkpoint.pth holds: epoch, model, optimizer; the newest release of their code goes on from it.

    Raises:
        UserError: the run is of another method, has no checkpoint, or a part that the official model lacks.
    """
    state = checkpoints.load(run)
    if state is None or state["name"] != "barlow_twins":
        raise UserError(f"{run.path} {'has no checkpoint' if state is None else 'is a run of ' + state['name']}; "
                        "only a run of barlow_twins that has one becomes an official checkpoint")  # fmt: skip
    if not str(run.settings["backbone"]["name"]).startswith("resnet"):
        raise UserError(f"{run.path} has the backbone {run.settings['backbone']['name']}; the official one is a ResNet")
    steps = max(1, state["images"] // run.settings["batch_size"])
    optimizer = run.settings["optimizer"]
    if optimizer["name"] != "lars" or optimizer["flavour"] != "L1":
        raise UserError(f"{run.path} was trained by {optimizer['name']}; the official code goes on with LARS (L1) only")
    groups = [
        {
            "lr": group["lr"],
            "weight_decay": optimizer["weight_decay"],
            "momentum": group["momentum"],
            "eta": group["trust"],
            "weight_decay_filter": True,
            "lars_adaptation_filter": True,
            "params": group["params"],
        }
        for group in state["optimizer"]["param_groups"]
    ]
    momenta = {place: {"mu": one["momentum"]} for place, one in state["optimizer"]["state"].items()}
    return {
        "epoch": state["step"] // steps,
        "model": model_of(state["method"]),
        "optimizer": {"state": momenta, "param_groups": groups},
    }


def write(run: Run, folder: str | Path) -> list[Path]:
    """Write checkpoint.pth and resnet50.pth (called as the run's backbone is) into a folder."""
    state = to_official(run)
    backbone = {name.removeprefix(BACKBONE): one for name, one in state["model"].items() if name.startswith(BACKBONE)}
    paths = [Path(folder) / "checkpoint.pth", Path(folder) / f"{run.settings['backbone']['name']}.pth"]
    for path, content in zip(paths, (state, backbone), strict=True):
        write_atomically(path, lambda temporary, content=content: torch.save(content, temporary))
    return paths


def _by_name(*_: object) -> str:
    """Stands for the function that early checkpoints name."""
    return "exclude_bias_and_norm"


def _settings(images: str, backbone: str, projector: list[int] | None) -> Settings:
    recipe = RECIPES["resnet50"]
    options = convert(schema_of(BarlowTwins), {"projector": projector} if projector else {}, "method")
    return Settings(
        images=images,
        method={"name": "barlow_twins", "recipe": "resnet50"} | options,
        backbone={"name": backbone},
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        image_size=recipe.image_size,
        labels="own",
        workers=0,
        threads=1,
        precision="16",
        views=recipe.views,
        optimizer=recipe.optimizer,
    )


def _facts(settings: Settings, width: int) -> dict[str, Any]:
    assert settings.backbone is not None and settings.views is not None
    return {
        "name": settings.backbone["name"],
        "options": {},
        "width": width,
        "size": settings.image_size,
        "mean": list(settings.views.mean),
        "std": list(settings.views.std),
        "views": settings.views.name,
    }


def _checkpoint(settings: Settings, method: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint of gemel: the optimiser's momenta stand in the same order there and here."""
    assert isinstance(settings.optimizer, LarsOptimizer) and settings.batch_size is not None
    images = RECIPES["resnet50"].images
    optimizer = optimizers.build(settings.optimizer, method.parameter_groups())
    momenta = (state.get("optimizer") or {}).get("state", {})
    for place, parameter in enumerate(one for group in optimizer.param_groups for one in group["params"]):
        mu = momenta.get(place, {}).get("mu")
        if mu is not None and mu.shape != parameter.shape:
            raise UserError(f"the optimiser's momentum {place} is {tuple(mu.shape)}, not {tuple(parameter.shape)}")
        if mu is not None:
            optimizer.state[parameter]["momentum"] = mu.clone()
    return {
        "name": "barlow_twins",
        "stage": 0,
        "step": int(state.get("epoch", 0)) * (images // settings.batch_size),
        "settings": "",
        "images": images,
        "processes": 1,
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "precision": {},
    }
