"""torchvision's classifiers, by their names, without the last layer."""

from difflib import get_close_matches
from typing import Any

from torch import nn

from gemel.backbones.base import Backbone
from gemel.errors import UserError

_CLASSIFIERS = ("fc", "classifier", "heads", "head")  # what the families call the part that ends in the last layer


def torchvision_backbone(name: str, /, *, pretrained: bool = False) -> Backbone:
    """A network of torchvision without its last linear layer, in training mode.

    Args:
        name: torchvision's name
        pretrained: with torchvision's newest weights
    """
    from torchvision import models  # half a second to import

    known = models.list_models(module=models)
    if name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"torchvision has no classifier {name!r}{hint}")
    try:
        network: Any = models.get_model(name, weights="DEFAULT" if pretrained else None)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"torchvision's weights of {name} can't be had ({error}); give a file: --weights") from error
    for part in _CLASSIFIERS:
        linears = [
            (path, module)
            for path, module in network.named_modules()
            if path.split(".")[0] == part and isinstance(module, nn.Linear)
        ]
        if linears:
            path, last = linears[-1]
            network.set_submodule(path, nn.Identity())
            return Backbone(network, last.in_features)
    raise UserError(f"torchvision's {name} ends in no linear layer; its features are not known here")
