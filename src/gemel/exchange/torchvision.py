"""A state dict of torchvision's ResNets; timm, whose networks gemel trains, names their tensors alike."""

from pathlib import Path

import torch
from torch import Tensor
from torchvision import models
from torchvision.models import resnet

from gemel.backbones.torchvision import torchvision_backbone
from gemel.engine.checkpoints import differences, read_tensors, written
from gemel.exchange import output, refuse
from gemel.runs.files import write_atomically
from gemel.runs.run import Run


def export(run: Run, out: Path | None = None) -> Path:
    """Write what `torchvision.models.NAME()` loads strictly once its `fc` is an `Identity`.

    Args:
        run: whose backbone it is.
        out: the file; None: RUN/torchvision.pth.

    Raises:
        UserError: torchvision has no ResNet of that name, or one of other tensors (a small stem).
    """
    tensors = resnet_tensors(run, "torchvision")
    path = output(run, out, "torchvision.pth", ".pth", ".pt")
    write_atomically(path, lambda temporary: written(lambda: torch.save(tensors, temporary), path))
    return path


def resnet_tensors(run: Run, library: str) -> dict[str, Tensor]:
    """Return the tensors of a backbone that is one of torchvision's ResNets, under torchvision's names.

    Args:
        run: whose backbone it is.
        library: what is to load them, for messages.

    Raises:
        UserError: it is no such ResNet.
    """
    name = str(run.backbone_facts["name"]).partition(".")[0]  # timm's tags of weights stand behind a dot
    known = [one for one in models.list_models(models) if models.get_model_builder(one).__module__ == resnet.__name__]
    if name not in known:
        raise refuse(name, library, [f"its ResNets are {', '.join(known)}"])
    tensors = read_tensors(run.backbone_path)
    with torch.random.fork_rng():
        wrong = differences(torchvision_backbone(name).network, tensors)
    if wrong:
        raise refuse(name, library, wrong)
    return tensors
