"""torchvision's classifiers, by their names, without the last linear layer."""

from difflib import get_close_matches
from typing import Any

from torch import nn

from gemel.backbones.base import REFUSALS, Backbone, first_line, measured, refusal
from gemel.errors import UserError, brief

_CLASSIFIERS = ("fc", "classifier", "heads", "head")  # what the families call the part that ends in the last layer


def torchvision_backbone(name: str, size: int | None = None, /, *, pretrained: bool = False) -> Backbone:
    """Return a network of torchvision without its last linear layer, in training mode.

    Args:
        name: torchvision's name
        size: side of the images that it will see; None: the one that it was made for
        pretrained: with torchvision's newest weights

    Raises:
        UserError: torchvision has no such classifier or weights, or the network does not take images of this size.
    """
    from torchvision import models  # half a second to import

    known = models.list_models(module=models)
    if name not in known:
        near = get_close_matches(name[:100], known, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"torchvision has no classifier {brief(name)!r}{hint}")
    options: dict[str, Any] = {}
    if not pretrained and name in ("googlenet", "inception_v3"):
        options["init_weights"] = True  # torchvision warns where it is left open
    if not pretrained and size and name.startswith("vit_"):
        options["image_size"] = size
    try:
        network: Any = models.get_model(name, weights="DEFAULT" if pretrained else None, **options)
    except (OSError, *REFUSALS) as error:
        what = f"weights of {name} can't be had" if pretrained else f"{name} can't be made for {size} pixels"
        advice = "give a file: --weights" if pretrained else "224 work"
        raise UserError(f"torchvision's {what} ({first_line(error)}); {advice}") from error
    for auxiliary in ("AuxLogits", "aux1", "aux2"):  # classifiers whose outputs join the features' in training mode
        if hasattr(network, auxiliary):
            setattr(network, auxiliary, None)
            network.aux_logits = False
    for part in _CLASSIFIERS:
        linears = [path for path, module in network.named_modules() if _is_linear_of(part, path, module)]
        if linears:
            network.set_submodule(linears[-1], nn.Identity())
            return _fitting(name, network, size)
    raise UserError(f"torchvision's {name} ends in no linear layer; its features are not known here")


def _is_linear_of(part: str, path: str, module: nn.Module) -> bool:
    return path.split(".")[0] == part and isinstance(module, nn.Linear)


def _fitting(name: str, network: Any, size: int | None) -> Backbone:
    own = getattr(network, "image_size", 299)  # Inception's; all but transformers take smaller ones too
    reason = ""
    for side in (size,) if size else (64, own):
        try:
            return measured(network, side)
        except REFUSALS as error:
            reason = reason or first_line(error)
    works = next((side for side in (224, own) if not refusal(network, side)), None)
    raise UserError(
        f"torchvision's {name} takes no images of {size} pixels ({reason}); choose "
        + (f"{works} pixels" if works else "another network")
    )
