"""What the official layouts share: the network that shapes tell, and the run that is made of a file."""

import re
from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from gemel import backbones, methods
from gemel.engine import checkpoints, optimizers
from gemel.errors import UserError
from gemel.runs.files import write_atomically
from gemel.runs.folder import Claim, create
from gemel.runs.run import Run
from gemel.settings.recipes import Recipe
from gemel.settings.schema import convert, schema_of
from gemel.settings.tree import Settings, render
from gemel.training.build import build_backbone, build_method, facts_of

Tensors = dict[str, Tensor]

RESNETS = {
    (2, 2, 2, 2, False): "resnet18",
    (3, 4, 6, 3, False): "resnet34",
    (3, 4, 6, 3, True): "resnet50",
    (3, 4, 23, 3, True): "resnet101",
    (3, 8, 36, 3, True): "resnet152",
}
"""by blocks of each stage, and whether a block has three layers"""

TRANSFORMERS = {192: "deit_tiny_patch16_224", 384: "deit_small_patch16_224", 768: "vit_base_patch16_224"}
"""by width; the number of attention heads, which no shape tells, is DeiT's: width / 64"""

ALIKE = ("resnet50w2", "vit_tiny_patch16_224", "vit_small_patch16_224", "deit_base_patch16_224")
"""networks that are written too: other names of these transformers, and ResNet-50 with its channels doubled"""


class Bare(NamedTuple):
    """A backbone alone, by gemel's names."""

    method: str
    recipe: str
    """whose settings the run has"""
    backbone: Tensors
    """by the network's own names"""


class Whole(NamedTuple):
    """A checkpoint with heads, by gemel's names."""

    method: str
    recipe: str
    """whose settings the run has, but for `options`"""
    backbone: Tensors
    """the student's, by the network's own names"""
    tensors: Tensors
    """all, by the method's names"""
    options: Mapping[str, Any]
    """the method's, as the tensors tell them"""
    epochs: int
    """that were finished"""
    momenta: Mapping[str, Tensor] = {}
    """of LARS, by names of parameters"""
    network: Mapping[str, Any] | None = None
    """name and options of the network; None: as `network_of` tells"""
    images: int | None = None
    """rows of buffers as long as the dataset; None: the recipe's images"""


def tensors_of(found: Any, path: Path) -> Tensors:
    """Return a state dict without DDP's prefix.

    Raises:
        UserError: it is none.
    """
    if not isinstance(found, dict) or not found or not all(isinstance(one, Tensor) for one in found.values()):
        raise UserError(f"{path} is no official checkpoint: a dictionary of tensors, or one as `model`, is needed")
    return {re.sub(r"^module\.", "", str(name)): value for name, value in cast(dict[str, Tensor], found).items()}


def below(prefix: str, tensors: Mapping[str, Tensor], *, put: str = "") -> Tensors:
    """Return the tensors below a prefix, which is replaced."""
    return {put + name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def network_of(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """Return the name of the network that has these tensors, and for a transformer the side of its images.

    Raises:
        UserError: it is none of those known here.
    """
    if "patch_embed.proj.weight" in tensors and "pos_embed" in tensors:
        width, _, _, patch = tensors["patch_embed.proj.weight"].shape
        if width in TRANSFORMERS:
            side = patch * isqrt(tensors["pos_embed"].shape[1] - 1)
            return {"name": TRANSFORMERS[width], "image_size": side} | ({} if patch == 16 else {"patch_size": patch})
    if "conv1.weight" in tensors:
        stages = [{name.split(".")[1] for name in tensors if name.startswith(f"layer{one}.")} for one in range(1, 5)]
        first, second, third, fourth = map(len, stages)
        name = RESNETS.get((first, second, third, fourth, "layer1.0.conv3.weight" in tensors))
        wide = tensors["conv1.weight"].shape[0] == 128
        if name is not None and (not wide or name == "resnet50"):
            return {"name": "resnet50w2" if wide else name}
    raise UserError(f"{path}: its {len(tensors)} tensors are of no ResNet or vision transformer known here")


def check_network(facts: Mapping[str, Any]) -> None:
    """Refuse a backbone that the official code lacks.

    Raises:
        UserError: it does.
    """
    name = str(facts["name"]).partition(".")[0]
    stem = facts["options"].get("stem", "standard")
    if stem != "standard" or name not in {*RESNETS.values(), *TRANSFORMERS.values(), *ALIKE}:
        what = f"{name}{f' with a {stem} stem' if stem != 'standard' else ''}"
        raise UserError(f"the official code has ResNets and vision transformers, not {what}")


def to_run(found: Bare | Whole, claimed: Claim, path: Path) -> Run:
    """Write a run's folder: run.yaml, backbone, and a checkpoint where there are heads.

    Args:
        found: what the file holds.
        claimed: the run's folder, not made yet.
        path: the file, for messages and for environment.json.

    Returns:
        The run.

    Raises:
        UserError: tensors are missing, or they or momenta are of other shapes.
    """
    recipe = methods.find_recipe(f"{found.method}/{found.recipe}")[1]
    known = found.network if isinstance(found, Whole) else None
    settings = settings_of(found, recipe, known or network_of(found.backbone, path))
    state = None
    if isinstance(found, Whole):
        images = recipe.images if found.images is None else found.images
        method = build_method(settings, images)
        checkpoints.load_strictly(method, found.tensors, str(path))
        backbone, state = method.encoder(), _state(found, recipe, settings, method, path, images)
    else:
        backbone = build_backbone(settings)
        checkpoints.load_strictly(backbone.network, found.backbone, str(path))
    run = create(claimed, render(settings.model_dump()))
    run.write_json("environment.json", {"imported": path.name, "method": methods.find(found.method).described()})
    if state is not None:
        checkpoints.save(run, state)
    checkpoints.save_backbone(run, backbone, facts_of(settings, backbone.width))
    return run


def settings_of(found: Bare | Whole, recipe: Recipe, network: Mapping[str, Any]) -> Settings:
    """Return the settings of an imported run: its own network and heads, the rest from the recipe."""
    options: dict[str, Any] = dict(found.options) if isinstance(found, Whole) else {}
    method = convert(schema_of(methods.find(found.method)), {**recipe.method, **options}, "method")
    classes = method.pop("classes", None)
    schema = schema_of(backbones.find(network["name"]))
    training = {key: value for key, value in recipe.backbone.items() if key in ("zero_init", "drop_path")}
    given = {key: value for key, value in {**training, **network}.items() if key in schema.model_fields}
    return Settings(
        images="imagenet",
        method={"name": found.method, "recipe": found.recipe} | method,
        backbone={"name": network["name"]} | convert(schema, given, "backbone"),
        classes=classes if isinstance(found, Whole) else None,
        image_size=network.get("image_size", recipe.image_size),
        labels="none",
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        views=recipe.views,
        optimizer=recipe.optimizer,
        workers=0,
        threads=torch.get_num_threads(),
        precision="32",
    )


def steps_of_epoch(images: int, batch_size: int) -> int:
    """Return the number of whole batches in an epoch, at least one."""
    return max(1, images // batch_size)


def save(content: Mapping[str, Any], path: Path) -> None:
    """Write by `torch.save`, whole or not at all."""
    write_atomically(path, lambda temporary: checkpoints.written(lambda: torch.save(dict(content), temporary), path))


def _state(found: Whole, recipe: Recipe, settings: Settings, method: Any, path: Path, images: int) -> dict[str, Any]:
    """Return a checkpoint of gemel; it can't be resumed, as nothing tells what the official code would have drawn."""
    assert settings.optimizer is not None
    optimizer = optimizers.build(settings.optimizer, method.parameter_groups())
    for name, parameter in method.named_parameters():
        momentum = found.momenta.get(name)
        if momentum is not None and momentum.shape != parameter.shape:
            shapes = f"{tuple(momentum.shape)}, not {tuple(parameter.shape)}"
            raise UserError(f"{path} does not fit the network: the optimiser's momentum of {name} is {shapes}")
        if momentum is not None:
            optimizer.state[parameter]["momentum"] = momentum
    return {
        "name": found.method,
        "stage": 0,
        "step": found.epochs * steps_of_epoch(recipe.images, recipe.batch_size),
        "settings": "",
        "images": images,
        "identity": "",
        "processes": 1,
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "precision": {},
    }
