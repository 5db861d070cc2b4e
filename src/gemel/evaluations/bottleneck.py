"""Embeddings read as an information bottleneck: numbers for the report, from two views of a few images."""

from math import log
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gemel.data.sources import Source
from gemel.device import device
from gemel.evaluations.base import Subject
from gemel.evaluations.features import judging
from gemel.evaluations.view_features import see_views
from gemel.methods.base import Method
from gemel.metrics import collapse, shared_information
from gemel.settings.recipes import Views

IMAGES = 512
"""that are looked at; of more the same ones are drawn each time"""

NUMBERS = 2**23
"""in the embeddings of a view; fewer images where they are wider"""

TEMPERATURE = 0.1
"""τ of InfoNCE"""


def bottleneck(subject: Subject, source: Source, indices: NDArray[np.int64], recipe: Views) -> dict[str, Any] | None:
    """Return what evaluations/bottleneck.json holds, for a method with embeddings that are no classes.

    Embeddings are standardised over both views together: the log-determinant is 0 where nothing is redundant.
    Log-determinants and IMAX are divided by D.

    Args:
        subject: with its method.
        source: the images.
        indices: of its readable ones.
        recipe: of the views, as the run drew them.

    Returns:
        None for another method, embeddings that are not finite, one image.
    """
    width = _embedding_width(subject)
    if width is None or len(indices) < 2:
        return None
    count = min(len(indices), IMAGES, max(2, NUMBERS // width))
    chosen = np.sort(np.random.default_rng(0).permutation(indices)[:count])
    raw = see_views(subject, source, chosen, recipe, views=2, seed=0, method=subject.method).transpose(0, 1)
    if not bool(raw.isfinite().all()):  # (2, n, D)
        return None
    rows = raw.flatten(0, 1).double()
    views = ((rows - rows.mean(0)) * (rows.var(0, correction=0) + 1e-5).rsqrt()).view(raw.shape)
    entropy = shared_information.log_determinant(views.flatten(0, 1))
    conditional = shared_information.conditional_log_determinant(views)
    invariance, redundancy = shared_information.twin_terms(raw[0], raw[1])
    found = {
        "images": count,
        "width": width,
        "ridge": shared_information.RIDGE,
        "temperature": TEMPERATURE,
        "entropy": entropy / width,
        "conditional": conditional / width,
        "shared": (entropy - conditional) / 2,
        "invariance": invariance,
        "redundancy": redundancy,
        "rankme": collapse.rankme(raw[0]),
        "rankme_limit": min(count, width),
        "imax": shared_information.imax(views[0], views[1]) / width,
        "info_nce": shared_information.info_nce(raw[0], raw[1], TEMPERATURE),
        "info_nce_by_chance": log(count - 1),
        "spectrum": [round(v, 6) for v in shared_information.correlation_spectrum(raw[0], raw[1]).tolist()],
    }
    weight = getattr(subject.method, "lambda_param", None)
    if isinstance(weight, float):  # λ of a loss of just these two terms
        share = shared_information.redundancy_share(invariance, redundancy, weight)
        found |= {"lambda_param": weight, "redundancy_share": share}
    return found


def _embedding_width(subject: Subject) -> int | None:
    """Return D of a method with embeddings of its own (`embed`) that are no logits of classes; None for another."""
    method = subject.method
    if method is None or type(method).embed is Method.embed:
        return None
    with judging(subject, device()), torch.inference_mode():
        features = torch.zeros(1, int(subject.facts["width"]), device=device())
        return None if subject.classify(features) is not None else method.embed(features).shape[1]
