"""Barlow Twins' embeddings read as an information bottleneck: numbers for the report, of two views of a few images."""

from math import log
from typing import Any

import numpy as np

from gemel.data.sources import Source
from gemel.evaluations.base import Subject
from gemel.evaluations.view_features import see_views
from gemel.methods.barlow_twins import BarlowTwins
from gemel.metrics import collapse
from gemel.metrics import information as metrics
from gemel.settings.recipes import Views

IMAGES = 512
"""that are looked at; of more the same ones are drawn each time"""

NUMBERS = 2**23
"""in the embeddings of a view; fewer images where they are wider"""

TEMPERATURE = 0.1
"""τ of InfoNCE"""


def information(
    subject: Subject, source: Source, places: np.ndarray[Any, np.dtype[np.int64]], recipe: Views
) -> dict[str, Any] | None:
    """What evaluations/information.json holds; None for another method, embeddings that are not finite, one image.

    Embeddings are standardised over both views together, as the loss knows no scale: the log-determinant is 0 where
    nothing is redundant. Log-determinants and IMAX are divided by D.

    Args:
        subject: with its method.
        source: the images.
        places: of its readable ones.
        recipe: of the views, as the run drew them.
    """
    method = subject.method
    if not isinstance(method, BarlowTwins) or len(places) < 2:
        return None
    width = method.projector[-1].out_features
    assert isinstance(width, int)
    count = min(len(places), IMAGES, max(2, NUMBERS // width))
    chosen = np.sort(np.random.default_rng(0).permutation(places)[:count])
    raw = see_views(subject, source, chosen, recipe, views=2, seed=0, method=method).transpose(0, 1)  # (2, n, D)
    if not bool(raw.isfinite().all()):
        return None
    rows = raw.flatten(0, 1).double()
    views = ((rows - rows.mean(0)) * (rows.var(0, correction=0) + 1e-5).rsqrt()).view(raw.shape)
    entropy = metrics.log_determinant(views.flatten(0, 1))
    conditional = metrics.conditional_log_determinant(views)
    invariance, redundancy = metrics.twin_terms(raw[0], raw[1])
    return {
        "images": count,
        "width": width,
        "ridge": metrics.RIDGE,
        "temperature": TEMPERATURE,
        "lambda_param": method.lambda_param,
        "entropy": entropy / width,
        "conditional": conditional / width,
        "shared": (entropy - conditional) / 2,
        "invariance": invariance,
        "redundancy": redundancy,
        "redundancy_share": metrics.redundancy_share(invariance, redundancy, method.lambda_param),
        "rankme": collapse.rankme(raw[0]),
        "rankme_limit": min(count, width),
        "imax": metrics.imax(views[0], views[1]) / width,
        "info_nce": metrics.info_nce(raw[0], raw[1], TEMPERATURE),
        "info_nce_by_chance": log(count - 1),
        "spectrum": [round(value, 6) for value in metrics.correlation_spectrum(raw[0], raw[1]).tolist()],
    }
