"""From settings to a network and a method on it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gemel import backbones, methods
from gemel.backbones.base import Backbone
from gemel.backbones.parts.last_stage import without_tail
from gemel.backbones.vectors import vectors, worth
from gemel.device import device
from gemel.engine import checkpoints
from gemel.errors import UserError, is_out_of_memory
from gemel.methods.base import Method
from gemel.runs.run import Run
from gemel.settings.recipes import VectorViews
from gemel.settings.run_settings import ON_FEATURES
from gemel.settings.schema import convert, schema_of
from gemel.settings.tree import Settings


def build_method(settings: Settings, images: int, width: int | None = None) -> Method:
    """Return the method on its backbone, for a number of images, with the weights of the seed, or timm's pretrained.

    Args:
        settings: without gaps.
        images: N.
        width: of the frozen features that heads learn from; None: the method learns from images.
    """
    assert settings.backbone is not None
    torch.manual_seed(settings.seed)
    if width is None:
        backbone = build_backbone(settings)
    else:
        assert isinstance(settings.views, VectorViews)
        views = settings.views
        kept = worth(views.components, width, images)
        backbone = vectors(width=width, components=kept, whitening=views.whitening)
    constructor = methods.find(settings.method["name"])
    options = {key: value for key, value in settings.method.items() if key not in ("name", "recipe")}
    if settings.classes is not None:
        options["classes"] = settings.classes
    try:
        method = constructor(backbone, **convert(schema_of(constructor), options, "method"))
        method.attach(images)
        return method
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"{settings.method['name']} of this size needs more memory than there is: {error}") from error


def build_backbone(settings: Settings) -> Backbone:
    """Return the network of `settings.backbone`, made for images of `settings.image_size`, as it is before training.

    Raises:
        UserError: it does not take images of this size.
    """
    assert settings.backbone is not None
    name, size = settings.backbone["name"], settings.image_size
    options = {key: value for key, value in settings.backbone.items() if key != "name"}
    constructor = backbones.find(name, size)
    options = convert(schema_of(constructor), options, "backbone")
    if settings.weights == "timm":
        if "pretrained" not in options:
            raise UserError(f"--weights timm needs one of timm's networks, not {name}")
        options["pretrained"] = True
    backbone = constructor(**options)
    backbone.part = settings.part
    return backbone


def load_tensors(method: Method, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Load a checkpoint's tensors into a method, the table of partners too, whose size is not known before.

    Raises:
        UserError: names or shapes differ.
    """
    partners = tensors.get("partners")
    method.partners = None if partners is None else torch.empty_like(partners, device=device())
    checkpoints.load_strictly(method, tensors, origin)


def load_method(run: Run) -> Method:
    """Return the run's method as trained, in evaluation mode: backbone and heads.

    Raises:
        UserError: the run has no checkpoint.
    """
    state = checkpoints.load(run)
    if state is None:
        raise UserError(f"{run.path} has no checkpoint; gemel resume {run.path} brings the run to its end")
    settings = Settings.model_validate(convert(Settings, run.settings, "run.yaml"))
    width = int(run.backbone_facts["width"]) if has_frozen_network(settings) else None
    if settings.backbone is not None and settings.backbone["name"] == "vectors":
        width = int(settings.backbone["width"])
    method = build_method(settings.model_copy(update={"weights": None}), int(state["images"]), width)
    tensors = without_tail(state["method"]) if settings.train == "last" else state["method"]
    load_tensors(method, tensors, str(run.checkpoint_path))
    return method.eval()


def has_frozen_network(settings: Settings) -> bool:
    """Return whether heads learn from the features of a network that is frozen, if only until its last stage learns."""
    return settings.train in ON_FEATURES and settings.backbone is not None and settings.backbone["name"] != "vectors"


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
        "size": settings.image_size or 0,
        "mean": list(settings.views.mean),
        "std": list(settings.views.std),
        **({"views": "photo", "crop": "whole"} if has_frozen_network(settings) else {"views": settings.views.name}),
        "white": settings.white,
        "black": settings.black,
        "background": settings.background,
        "pixels": settings.pixels,
        "channels": settings.channels,
        "pages": settings.pages,
    }
