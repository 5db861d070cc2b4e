"""Backbones: a function in a file here by that name, else one of timm's networks."""

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemel.errors import UserError, brief

if TYPE_CHECKING:
    from gemel.backbones.base import Backbone

_NOT_NETWORKS = ("__init__", "base", "timm", "torchvision")


def available() -> list[str]:
    """Return the names of gemel's own networks; timm's are found too."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _NOT_NETWORKS)


def find(name: str, size: int | None = None) -> "Callable[..., Backbone]":
    """Return the constructor of a network; its keyword-only arguments are its settings.

    Args:
        name: of gemel's own networks or of timm's.
        size: side of the images that it will see, for networks that are made for one size.

    Raises:
        UserError: neither gemel nor timm has it.
    """
    if name in available():
        return getattr(import_module(f"gemel.backbones.{name}"), name)
    module: Any = import_module("gemel.backbones.timm")
    if name not in module.names():
        near = get_close_matches(name[:100], [*available(), *module.names()], n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(
            f"--backbone {brief(name)!r} is unknown; gemel has {', '.join(available())}, timm has its own{hint}"
        )
    return partial(module.timm_backbone, name, size)
