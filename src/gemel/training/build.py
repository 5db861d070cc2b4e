"""From settings to a network and a method on it."""

from typing import Any

import torch

from gemel import backbones, methods
from gemel.backbones.base import Backbone
from gemel.errors import UserError, is_out_of_memory
from gemel.methods.base import Method
from gemel.settings.schema import convert, schema_of
from gemel.settings.tree import Settings


def build_method(settings: Settings) -> Method:
    """The method on its backbone, with the weights of the seed, or timm's pretrained ones."""
    assert settings.backbone is not None
    torch.manual_seed(settings.seed)
    backbone = build_backbone(settings)
    constructor = methods.find(settings.method["name"])
    options = {key: value for key, value in settings.method.items() if key not in ("name", "recipe")}
    if settings.classes is not None:
        options["classes"] = settings.classes
    try:
        return constructor(backbone, **convert(schema_of(constructor), options, "method"))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"{settings.method['name']} of this size needs more memory than there is: {error}") from error


def build_backbone(settings: Settings) -> Backbone:
    """The network of `settings.backbone`, as it is before training."""
    assert settings.backbone is not None
    options = {key: value for key, value in settings.backbone.items() if key != "name"}
    constructor = backbones.find(settings.backbone["name"])
    options = convert(schema_of(constructor), options, "backbone")
    if "image_size" in options and options["image_size"] is None:
        options["image_size"] = settings.image_size
    if settings.weights == "timm":
        if "pretrained" not in options:
            raise UserError(f"--weights timm needs one of timm's networks, not {settings.backbone['name']}")
        options["pretrained"] = True
    return constructor(**options)


def facts_of(settings: Settings, width: int) -> dict[str, Any]:
    """What backbone.json tells of a run's backbone; `width` is the number of its features."""
    assert settings.backbone is not None and settings.views is not None
    options = {key: value for key, value in settings.backbone.items() if key != "name"}
    if "pretrained" in options:
        options["pretrained"] = False  # the run's own weights follow: timm's need not be looked for again
    return {
        "name": settings.backbone["name"],
        "options": options,
        "width": width,
        "size": settings.image_size,
        "mean": list(settings.views.mean),
        "std": list(settings.views.std),
        "views": settings.views.name,
    }
