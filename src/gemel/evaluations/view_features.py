"""Features, or embeddings, of augmented views of a few images, as training would see them."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gemel.data.batches import Plan, draw_views
from gemel.data.normalise import Normalise
from gemel.data.sources import Source
from gemel.device import device
from gemel.engine.frozen import frozen
from gemel.evaluations.base import Progress, Subject
from gemel.evaluations.features import judging
from gemel.methods.base import Method
from gemel.settings.recipes import Views

AT_A_TIME = 256
"""images in one forward pass"""


def see_views(
    subject: Subject,
    source: Source,
    indices: NDArray[np.int64],
    recipe: Views,
    *,
    views: int,
    seed: int,
    method: Method | None = None,
    tell: Progress | None = None,
) -> Tensor:
    """Return features of views, or a method's embeddings of them, (images, views, width) on the CPU.

    Args:
        subject: the network; it is in evaluation mode meanwhile.
        source: the images.
        indices: of readable ones.
        recipe: how views are drawn: its global ones of as many epochs as it takes; local ones are left out.
        views: of each image.
        seed: of the views.
        method: whose embeddings are wanted; None: features.
        tell: told after each batch.
    """
    plan = Plan(source, recipe, int(subject.facts["size"]), seed, max(1, len(indices)))
    normalise = Normalise(subject.facts["mean"], subject.facts["std"]).to(device())
    embed: Any = nn.Identity() if method is None else method.embed
    parts: list[Tensor] = []
    with judging(subject, device()):
        network = frozen(subject.network, plan.size, images=views * len(indices))
        with torch.inference_mode():
            for start in range(0, len(indices), AT_A_TIME):
                chosen = indices[start : start + AT_A_TIME].tolist()
                found: list[Tensor] = []
                for epoch in range(-(-views // recipe.global_count)):
                    drawn = draw_views(plan, epoch, chosen).batch.views[: min(recipe.global_count, views - len(found))]
                    found += [embed(network(normalise(images.to(device())))).float().cpu() for images in drawn]
                parts.append(torch.stack(found, 1))
                if tell is not None:
                    tell(min(start + AT_A_TIME, len(indices)), len(indices))
    return torch.cat(parts)
