"""Checkpoints of the authors' released code of TWIST and of Barlow Twins, into a run and back.

Files are read as tensors, numbers, strings and an argparse.Namespace; nothing in them is run.
"""

import re
from argparse import Namespace
from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from gemel import methods
from gemel.errors import UserError
from gemel.methods.base import Method
from gemel.methods.twist import Twist
from gemel.runs import Run, claim_folder, create, write_atomically
from gemel.schema import convert, schema_of
from gemel.settings import Settings, render
from gemel.train import checkpoints
from gemel.train.build import build_backbone, build_method

Tensors = dict[str, Tensor]

_LAST, _NORM, _HEAD = "projection_heads.last_linear", "projection_heads.norm", "projection_heads.projection_head"
_OLDER = {"projection_heads.cls_heads.0.0": _LAST, "projection_heads.cls_heads.0.1": _NORM}
"""names of older TWIST files, and what they became"""

_HEADS = {**{f"{_HEAD}.{theirs}": f"layers.{ours}" for theirs, ours in ((0, 0), (1, 1), (4, 3), (5, 4))},
          _LAST: "layers.6", _NORM: "norm"}  # fmt: skip
"""parts of TWIST's head in the official files (3 is a dropout) and in `ClassHead`"""

_RESNETS = {(2, 2, 2, 2, False): "resnet18", (3, 4, 6, 3, False): "resnet34", (3, 4, 6, 3, True): "resnet50",
            (3, 4, 23, 3, True): "resnet101", (3, 8, 36, 3, True): "resnet152"}  # fmt: skip
"""by blocks of each stage, and whether a block has three layers"""

_TRANSFORMERS = {192: "deit_tiny_patch16_224", 384: "deit_small_patch16_224", 768: "vit_base_patch16_224"}
"""by width; the number of attention heads, which no shape tells, is DeiT's: width / 64"""


def read(file: str | Path, out: str | Path, *, method: str = "twist", overwrite: bool = False) -> Run:
    """An official checkpoint as a run, which embed, classify, evaluate and export take.

    Widths come from the tensors' shapes; a file of a bare backbone becomes a run without heads.

    Args:
        file: checkpoint.pth, or a file of a backbone alone.
        out: folder of the run.
        method: whose backbone it is, where the file holds nothing else.
        overwrite: replace the run that stands at `out`.

    Raises:
        UserError: the file holds something else, or tensors are missing or of other shapes.
    """
    path = Path(file)
    folder = claim_folder(str(out), method, overwrite=overwrite)
    found = checkpoints.read_tensors(path, allowed=(Namespace,))
    model = _tensors(found.get("model", found), path)
    teacher = _tensors(found["teacher"], path) if isinstance(found.get("teacher"), dict) else None
    if any(name.startswith("projection_heads.") for name in model):
        settings, tensors = _of_twist(model, teacher, path)
    elif any(name.startswith("projector.") for name in model):
        settings, tensors = _of_barlow_twins(model, path)
    else:
        return _bare(_without(model, "backbone."), method, folder, path)
    built = build_method(settings)
    checkpoints.load_strictly(built, tensors, str(path))
    run = create(folder, render(settings.model_dump()))
    _save(run, settings, built)
    epoch = int(found["epoch"]) if isinstance(found.get("epoch"), int) else 0
    state = {"name": settings.method["name"], "stage": 0, "step": 0, "settings": "", "images": 0, "processes": 1}
    kept = {"method": built.state_dict(), "optimizer": {}, "precision": {}, "official_epoch": epoch}
    checkpoints.save(run, state | kept)
    return run


def export(run: Run, out: Path | None = None) -> Path:
    """The run's network in the official layout, as `torch.save` writes it; else to RUN/official.pth.

    Of several class heads the best one is written. Barlow Twins' last batch norm, whose running statistics gemel does
    not keep, is written as it is before the first step.

    Raises:
        UserError: the official code has no such backbone or method.
    """
    method, name = checkpoints.load_method(run), run.settings["method"]["name"]
    backbone = run.backbone_facts["name"]
    if backbone not in {*_RESNETS.values(), *_TRANSFORMERS.values(), "resnet50w2"}:
        raise UserError(f"the official code has ResNets and vision transformers, not {backbone}")
    state: dict[str, Any] = {"epoch": int(run.settings["epochs"] or 1) - 1, "args": Namespace()}
    own = {key: value.cpu() for key, value in method.state_dict().items()}
    if isinstance(method, Twist):
        state |= {"model": _twist_names(own, "", method), "backbone": _without(own, "backbone.network.")}
        if method.teacher is not None:
            state["teacher"] = _twist_names(own, "teacher.networks.", method)
            state["teacher_backbone"] = _without(own, "teacher.networks.0.network.")
    elif name == "barlow_twins":
        parts = {f"module.backbone.{key}": value for key, value in _without(own, "backbone.network.").items()}
        parts |= {f"module.{key}": value for key, value in own.items() if key.startswith("projector.")}
        width = int(run.settings["method"]["projector"][-1])
        parts |= {"module.bn.running_mean": torch.zeros(width), "module.bn.running_var": torch.ones(width)}
        state = {"epoch": state["epoch"] + 1, "model": parts | {"module.bn.num_batches_tracked": torch.tensor(0)}}
    else:
        raise UserError(f"there is no official layout of {name}; there are twist and barlow_twins")
    path = run.path / "official.pth" if out is None else out
    write_atomically(path, lambda temporary: torch.save(state, temporary))
    return path


def _of_twist(model: Tensors, teacher: Tensors | None, path: Path) -> tuple[Settings, Tensors]:
    tensors = _twist_tensors(model, path)
    widths = [len(tensors[f"heads.0.layers.{layer}.weight"]) for layer in (0, 6)]
    if teacher is not None:
        for name, value in _twist_tensors(teacher, path).items():
            inner = name.removeprefix("backbone.").removeprefix("heads.")
            tensors[f"teacher.networks.{0 if name.startswith('backbone.') else 1}.{inner}"] = value
    tensors["head_losses"] = torch.zeros(1)
    backbone, size = _backbone_of(_without(tensors, "backbone.network."), path)
    options: dict[str, Any] = {"hidden": widths[0], "norm": "heads.0.norm.running_mean" in tensors}
    if teacher is not None or "patch" in backbone["name"]:
        options |= {"form": "transformer", "alpha": 0.4, "teacher": teacher is not None}
    return _settings("twist", backbone, size, options | {"classes": widths[1]}), tensors


def _of_barlow_twins(model: Tensors, path: Path) -> tuple[Settings, Tensors]:
    backbone, size = _backbone_of(_without(model, "backbone."), path)
    matrices = sorted(int(name.split(".")[1]) for name, one in model.items() if _is_matrix(name, one))
    widths = [len(model[f"projector.{layer}.weight"]) for layer in matrices]
    tensors = {f"backbone.network.{name}": value for name, value in _without(model, "backbone.").items()}
    tensors |= {name: value for name, value in model.items() if name.startswith("projector.")}
    return _settings("barlow_twins", backbone, size, {"projector": widths}), tensors


def _is_matrix(name: str, value: Tensor) -> bool:
    return name.startswith("projector.") and name.endswith(".weight") and value.ndim == 2


def _bare(tensors: Tensors, method: str, folder: Path, path: Path) -> Run:
    backbone, size = _backbone_of(tensors, path)
    settings = _settings(method, backbone, size, {})
    network = build_backbone(settings)
    checkpoints.load_strictly(network.network, tensors, str(path))
    run = create(folder, render(settings.model_dump()))
    checkpoints.save_backbone(run, network, _facts(settings, network.width))
    return run


def _settings(method: str, backbone: dict[str, Any], size: int, options: dict[str, Any]) -> Settings:
    """Of the imported run: its network as it is; what training took is the recipe's."""
    recipe = methods.find_recipe(method)[1]
    found = convert(schema_of(methods.find(method)), options, "method")
    return Settings(
        images="imagenet",
        method={"name": method, **{key: value for key, value in found.items() if key != "classes"}},
        backbone=backbone,
        classes=found.get("classes"),
        image_size=size,
        labels="none",
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        views=recipe.views,
        optimizer=recipe.optimizer,
        workers=0,
        threads=1,
        precision="32",
    )


def _backbone_of(tensors: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Any], int]:
    """The network that has these tensors, and the side of its images."""
    if "patch_embed.proj.weight" in tensors and "pos_embed" in tensors:
        width, _, _, patch = tensors["patch_embed.proj.weight"].shape
        size = patch * isqrt(tensors["pos_embed"].shape[1] - 1)
        if width in _TRANSFORMERS:
            return {"name": _TRANSFORMERS[width], "image_size": size}, size
    if "conv1.weight" in tensors:
        blocks = [{name.split(".")[1] for name in tensors if name.startswith(f"layer{one}.")} for one in range(1, 5)]
        name = _RESNETS.get((*map(len, blocks), "layer1.0.conv3.weight" in tensors))  # pyright: ignore[reportArgumentType]
        wide = tensors["conv1.weight"].shape[0] == 128
        if name is not None and (not wide or name == "resnet50"):
            return {"name": "resnet50w2" if wide else name, "zero_init": False}, 224
    raise UserError(f"{path}: its {len(tensors)} tensors are of no ResNet or vision transformer known here")


def _twist_tensors(model: Mapping[str, Tensor], path: Path) -> Tensors:
    """Official names to those of `Twist` with one head."""
    found: Tensors = {}
    for name, value in model.items():
        module, _, last = name.rpartition(".")
        module = _OLDER.get(module, module)
        if name.startswith("backbone."):
            found[f"backbone.network.{name.removeprefix('backbone.')}"] = value
        elif module in _HEADS:
            found[f"heads.0.{_HEADS[module]}.{last}"] = value
        else:
            raise UserError(f"{path} holds {name}, which no known form of TWIST's head has")
    missing = [layer for layer in (0, 3, 6) if f"heads.0.layers.{layer}.weight" not in found]
    if missing:
        raise UserError(f"{path} holds no whole head of TWIST: layers {missing} are missing")
    return found


def _twist_names(own: Mapping[str, Tensor], prefix: str, method: Twist) -> Tensors:
    """Names of `Twist`, of the student or of the teacher below `prefix`, to the official ones."""
    backbone, heads = (f"{prefix}0.network.", f"{prefix}1.") if prefix else ("backbone.network.", "heads.")
    found = {f"backbone.{name}": value for name, value in _without(own, backbone).items()}
    official = {ours: theirs for theirs, ours in _HEADS.items()}
    for name, value in _without(own, f"{heads}{method.best}.").items():
        module, _, last = name.rpartition(".")
        found[f"{official[module]}.{last}"] = value
    return found


def _without(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    """What stands below a prefix, without it; all as it is, where nothing does."""
    below = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return below or dict(tensors)


def _tensors(found: Any, path: Path) -> Tensors:
    """Check that it is a state dict; the prefix that DDP puts before every name goes."""
    if not isinstance(found, dict) or not found or not all(isinstance(one, Tensor) for one in found.values()):
        raise UserError(f"{path} is no official checkpoint: a dictionary of tensors, or one as `model`, is needed")
    return {re.sub(r"^module\.", "", str(name)): value for name, value in cast(dict[str, Tensor], found).items()}


def _save(run: Run, settings: Settings, method: Method) -> None:
    encoder = method.encoder()
    checkpoints.save_backbone(run, encoder, _facts(settings, encoder.width))


def _facts(settings: Settings, width: int) -> dict[str, Any]:
    assert settings.backbone is not None and settings.views is not None
    return {
        "name": settings.backbone["name"],
        "options": {key: value for key, value in settings.backbone.items() if key != "name"},
        "width": width,
        "size": settings.image_size,
        "mean": list(settings.views.mean),
        "std": list(settings.views.std),
        "views": settings.views.name,
    }
