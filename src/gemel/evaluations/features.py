"""One pass over a data set: features, and class probabilities where the method has classes."""

from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gemel.data.batches import InferenceLoader, default_workers
from gemel.data.listing import printable
from gemel.data.normalise import Normalise
from gemel.data.sources import Source
from gemel.errors import UserError
from gemel.methods.base import Method

Progress = Callable[[int, int], None]
"""(images done, images) after each batch"""


class Seen(NamedTuple):
    """What a network made of the readable images of a source, in their order."""

    source: Source
    places: NDArray[np.int64]
    """(N,) places in the source"""
    features: Tensor
    """(N, width) float32"""
    probabilities: Tensor | None
    """(N, C) float32"""
    rejected: dict[int, str]
    """reasons of the unreadable ones, by place"""

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(N,) -1 where unknown; None without labels."""
        return None if self.source.labels is None else self.source.labels[self.places]


def see(
    network: Method | nn.Module,
    facts: dict[str, Any],
    source: Source,
    *,
    progress: Progress | None = None,
) -> Seen:
    """Run the inference crop of every image through a network in evaluation mode.

    Args:
        network: a method (features by its encoder, probabilities by its classes) or a backbone alone.
        facts: of backbone.json: size, mean, std, views.
        source: the images.
        progress: told after each batch.

    Raises:
        UserError: no image can be read.
    """
    loader = InferenceLoader(
        source, size=int(facts["size"]), glyph=facts["views"] == "glyph", workers=default_workers(source)
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network.eval().to(device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    normalise = Normalise(facts["mean"], facts["std"]).to(device)
    found: list[tuple[Tensor, Tensor | None, Tensor]] = []
    with torch.inference_mode():
        for views, index in loader:
            found.append((*_look(network, normalise(views.to(device))), index.clone()))
            if progress is not None:
                progress(int(index[-1]) + 1, len(source))
    network.cpu()
    if not found:
        raise UserError(f"none of the {len(source)} images of {printable(source.name)} can be read")
    features, probabilities, places = zip(*found, strict=True)
    classes = None if probabilities[0] is None else torch.cat(probabilities)
    return Seen(source, torch.cat(places).numpy(), torch.cat(features), classes, loader.rejected)


def printed(quiet: bool) -> Progress | None:
    """A line every ten seconds; None where nothing is to be printed."""
    if quiet:
        return None
    shown = monotonic()

    def tell(done: int, count: int) -> None:
        nonlocal shown
        if monotonic() - shown > 10.0:
            shown = monotonic()
            print(f"{done} of {count} images", flush=True)

    return tell


def _look(network: Method | nn.Module, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Features, and class probabilities where there are classes; float32 on the CPU."""
    if not isinstance(network, Method):
        return network(images).float().cpu(), None
    features = network.encoder()(images)
    classes = network.classify(features)
    return features.float().cpu(), None if classes is None else classes.float().cpu()
