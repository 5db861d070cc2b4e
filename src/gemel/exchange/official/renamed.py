"""Released checkpoints of the relatives, whose parts have other names there: read by a table for each method."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gemel.errors import UserError
from gemel.exchange.official.layout import TRANSFORMERS, Tensors, Whole, below, network_of
from gemel.exchange.official.layout import tensors_of as state_dict_of

Options = Callable[[Tensors], dict[str, Any]]

BACKBONE = "backbone.network."
AVERAGE, AVERAGE_HEAD = "teacher.networks.0.network.", "teacher.networks.1."


class Renamed(NamedTuple):
    """How a method's released model is read."""

    method: str
    parts: Mapping[str, str | None]
    """beginnings of names there and here, the longest that fits counts; None: left out"""
    needed: tuple[str, ...]
    """beginnings that tell this layout from others"""
    options: Options
    """the method's options, from the tensors by gemel's names"""
    recipes: Mapping[str, str] = {"": "resnet50"}
    """recipe by network; of others the first"""
    more: Callable[[Mapping[str, Any], Path], Tensors] = lambda found, path: {}
    """what the file holds beside the model"""
    network: Callable[[Tensors, Path], dict[str, Any]] = network_of
    """name and options of the network that has these tensors, by its own names"""
    images: int | None = None
    """rows of buffers as long as the dataset; None: the recipe's images"""

    def fits(self, model: Mapping[str, Tensor]) -> bool:
        """Return whether these are the layout's names."""
        return all(any(name.startswith(part) for name in model) for part in self.needed)

    def recipe_of(self, network: str) -> str:
        """Return the recipe of a network, or the first."""
        return self.recipes.get(network, next(iter(self.recipes.values())))

    def read(self, found: Mapping[str, Any], model: Tensors, path: Path) -> Whole:
        """Return the checkpoint by gemel's names.

        Raises:
            UserError: a name is unknown.
        """
        tensors: Tensors = {}
        for name, value in (model | self.more(found, path)).items():
            theirs = max((part for part in self.parts if name.startswith(part)), key=len, default=None)
            if theirs is None:
                raise UserError(f"{path} holds {name}, which is no part of {self.method}'s released model")
            ours = self.parts[theirs]
            if ours is not None:
                tensors[ours + name.removeprefix(theirs)] = value
        backbone = below(BACKBONE, tensors)
        network = self.network(backbone, path)
        epoch = found.get("epoch")
        return Whole(
            self.method,
            self.recipe_of(recipe_key(network)),
            backbone,
            tensors,
            self.options(tensors),
            epoch if isinstance(epoch, int) else 0,
            network=network,
            images=self.images,
        )


def recipe_key(network: Mapping[str, Any]) -> str:
    """Return what recipes are told apart by: a network's name, and its size or width where it has one."""
    return " ".join(str(network[key]) for key in ("name", "size", "width") if key in network)


def widths(tensors: Tensors, head: str) -> list[int]:
    """Return the widths of a head's linear layers, in their order."""
    found = {int(name.split(".")[0]): len(one) for name, one in below(head, tensors).items() if one.ndim in (2, 4)}
    return [found[layer] for layer in sorted(found)]


def _moco_v2(tensors: Tensors) -> dict[str, Any]:
    return {"projector": widths(tensors, "projector."), "queue": tensors["queues.0.rows"].shape[1]}


def _pointers(*names: str) -> Callable[[Mapping[str, Any], Path], Tensors]:
    """Return a reader of pointers, which have one dimension there and none here."""

    def read(found: Mapping[str, Any], path: Path) -> Tensors:
        model = state_dict_of(found["state_dict"], path)
        return {name: model[name].reshape(()) for name in names}

    return read


def _moco_v3(tensors: Tensors) -> dict[str, Any]:
    layers = widths(tensors, "projector.")
    return {"hidden": layers[0], "width": layers[-1], "form": "resnet" if len(layers) == 2 else "transformer"}


def _sine(tensors: Tensors, path: Path) -> dict[str, Any]:
    """Return MoCo v3's own transformer, of 12 attention heads, by its width."""
    found = network_of(tensors, path)
    if found["name"] not in TRANSFORMERS.values():
        return found
    size = {384: "small", 768: "base"}.get(tensors["cls_token"].shape[2])
    if size is None:
        raise UserError(f"{path} is of a transformer whose number of attention heads is not known here")
    return {"name": "vit_sine", "size": size, "image_size": found["image_size"]}


def _simsiam(tensors: Tensors) -> dict[str, Any]:
    return {"projector": widths(tensors, "projector."), "predictor": widths(tensors, "predictor.")[0]}


def _swav(tensors: Tensors) -> dict[str, Any]:
    return {"projector": widths(tensors, "projector."), "prototypes": len(tensors["prototypes.weight"])}


def _dino(tensors: Tensors) -> dict[str, Any]:
    layers = widths(tensors, "head.mlp.")
    hidden = {"hidden": layers[0]} if len(layers) > 1 else {}
    return hidden | {
        "prototypes": len(tensors["head.last_layer.weight_v"]),
        "bottleneck": layers[-1],
        "layers": len(layers),
        "norm": "head.mlp.1.running_mean" in tensors,
        "scaled": not bool((tensors["head.last_layer.weight_g"] == 1).all()),
    }


def _teacher(found: Mapping[str, Any], path: Path) -> Tensors:
    """Return DINO's teacher, centre and number of epochs."""
    tensors = {f"teacher.{name}": value for name, value in state_dict_of(found.get("teacher"), path).items()}
    loss, epoch = found.get("dino_loss", {}), found.get("epoch")
    if "center" not in loss:
        raise UserError(f"{path} holds no centre (dino_loss); gemel pretrain IMAGES --weights {path} takes its teacher")
    count = torch.tensor(epoch if isinstance(epoch, int) else 0)
    return tensors | {"center": loss["center"].flatten(), "epochs._extra_state": count}


def _densecl(tensors: Tensors) -> dict[str, Any]:
    return {"projector": widths(tensors, "head.mlp."), "queue": tensors["queue.rows"].shape[1]}


def _halves(tensors: Tensors, path: Path) -> dict[str, Any]:
    """Return CMC's two networks, by the first one's layers and width."""
    first = below("l_to_ab.", tensors)
    depth = int(re.sub(r"\D", "", network_of(first, path)["name"]))
    return {"name": "lab_resnet", "depth": depth, "width": len(first["layer1.0.conv1.weight"]) / 64}


def _constants(found: Mapping[str, Any], path: Path) -> Tensors:
    """Return CMC's Z, without the banks, as nothing goes on from them."""
    width = len(state_dict_of(found["model"], path)["l_to_ab.fc.weight"])
    numbers = found.get("contrast", {}).get("params", torch.zeros(5))  # K, τ, Z of both, momentum; Z < 0: not yet
    return {"banks": torch.zeros(2, 0, width), "constants": numbers[2:4].clamp_min(0)}


LAYOUTS = [
    Renamed(
        "densecl",
        {
            "encoder_q.0.": BACKBONE, "encoder_q.1.mlp.": "head.mlp.", "encoder_q.1.mlp2.": "head.dense.",
            "encoder_k.0.": AVERAGE, "encoder_k.1.mlp.": f"{AVERAGE_HEAD}mlp.",
            "encoder_k.1.mlp2.": f"{AVERAGE_HEAD}dense.", "backbone.": None, "queue": "queue.rows",
            "queue2": "dense_queue.rows", "queue_ptr": "queue.pointer", "queue2_ptr": "dense_queue.pointer",
        },
        ("encoder_q.1.mlp2.", "queue2"), _densecl, more=_pointers("queue_ptr", "queue2_ptr"),
    ),
    Renamed(
        "moco_v2",
        {
            "encoder_q.": BACKBONE, "encoder_q.fc.": "projector.", "encoder_q.fc.weight": "projector.0.weight",
            "encoder_q.fc.bias": "projector.0.bias", "encoder_k.": AVERAGE, "encoder_k.fc.": AVERAGE_HEAD,
            "encoder_k.fc.weight": f"{AVERAGE_HEAD}0.weight", "encoder_k.fc.bias": f"{AVERAGE_HEAD}0.bias",
            "queue": "queues.0.rows", "queue_ptr": "queues.0.pointer",
        },
        ("encoder_q.conv1", "queue"), _moco_v2, more=_pointers("queue_ptr"),
    ),
    Renamed(
        "moco_v3",
        {
            "base_encoder.": BACKBONE, "base_encoder.fc.": "projector.", "base_encoder.head.": "projector.",
            "momentum_encoder.": AVERAGE, "momentum_encoder.fc.": AVERAGE_HEAD, "momentum_encoder.head.": AVERAGE_HEAD,
            "predictor.": "predictor.",
        },
        ("base_encoder.", "momentum_encoder.", "predictor."), _moco_v3,
        recipes={"": "resnet50", "vit_sine small": "vit_small", "vit_sine base": "vit_base"}, network=_sine,
    ),
    Renamed(
        "simsiam",
        {"encoder.": BACKBONE, "encoder.fc.": "projector.", "predictor.": "predictor."},
        ("encoder.conv1", "encoder.fc.6", "predictor."), _simsiam,
    ),
    Renamed(
        "swav",
        {"": BACKBONE, "projection_head.": "projector.", "prototypes.": "prototypes."},
        ("conv1.weight", "projection_head.", "prototypes.weight"), _swav,
        recipes={"": "resnet50", "resnet50w2": "resnet50w2"},
    ),
    Renamed(
        "dino",
        {
            "backbone.": BACKBONE, "head.": "head.", "head.mlp.weight": "head.mlp.0.weight",
            "head.mlp.bias": "head.mlp.0.bias", "teacher.backbone.": AVERAGE, "teacher.head.": AVERAGE_HEAD,
            "teacher.head.mlp.weight": f"{AVERAGE_HEAD}mlp.0.weight",
            "teacher.head.mlp.bias": f"{AVERAGE_HEAD}mlp.0.bias", "center": "center", "epochs.": "epochs.",
        },
        ("backbone.", "head.last_layer.weight_v"), _dino,
        recipes={"": "resnet50_800ep", **dict.fromkeys(TRANSFORMERS.values(), "deit_small")}, more=_teacher,
    ),
    Renamed(
        "vicreg",
        {"backbone.": BACKBONE, "projector.": "projector."},
        ("backbone.", "projector.0.bias", "projector.1.running_mean"),
        lambda tensors: {"projector": widths(tensors, "projector.")},
    ),
    Renamed(
        "cmc",
        {
            "": BACKBONE, "l_to_ab.fc.": "heads.0.", "ab_to_l.fc.": "heads.1.",
            "banks": "banks", "constants": "constants",
        },
        ("l_to_ab.", "ab_to_l."), lambda tensors: {"width": len(tensors["heads.0.weight"])},
        recipes={"": "resnet50", "lab_resnet 0.5": "resnet50_half", "lab_resnet 2.0": "resnet50_double"},
        more=_constants, network=_halves, images=0,
    ),
]  # fmt: skip
"""in the order in which they are tried"""
