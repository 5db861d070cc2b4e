"""Losses of clusters and information on four views of rows, for the test of several processes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gemel.distributed import rank
from gemel.methods.bridle import bridle_loss
from gemel.methods.deep_infomax import deep_infomax_loss
from gemel.methods.deepcluster import deepcluster_loss
from gemel.methods.deepcluster_v2 import UNKNOWN, deepcluster_v2_loss
from gemel.methods.iic import iic_loss
from gemel.methods.imax import imax_loss
from gemel.methods.imsat import imsat_loss
from gemel.methods.noise_as_targets import noise_as_targets_loss
from gemel.methods.scan import scan_loss, scan_self_labeling_loss
from gemel.methods.sela import sela_loss
from gemel.methods.self_classifier import self_classifier_loss

Views = Sequence[Tensor]


def labels(views: Views, classes: int, period: int = 0) -> Tensor:
    """This process's part of labels that depend on the row alone; every `period`-th is unknown."""
    rows = torch.arange(len(views[0])) + rank() * len(views[0])
    found = rows % classes
    return found.masked_fill(rows % period == 0, UNKNOWN) if period else found


def infomax(views: Views, measure: str) -> dict[str, Tensor]:
    return deep_infomax_loss(torch.stack([*views[:2]], 2), views[2][:, :, None], measure=measure)  # type: ignore[arg-type]


def deepcluster(views: Views) -> dict[str, Tensor]:
    width = views[0].shape[1]
    weight = torch.linspace(-1, 1, 4 * width, dtype=views[0].dtype).view(4, width).sin()
    return deepcluster_loss(views[0], weight, weight[:, 0], labels(views, 4))


def deepcluster_v2(views: Views) -> dict[str, Tensor]:
    width = views[0].shape[1]
    centroids = normalize(torch.linspace(-3, 3, 5 * width, dtype=views[0].dtype).view(5, width).cos())
    both = torch.stack([labels(views, 5, 4), labels(views, 3, 4)])
    return deepcluster_v2_loss(views, both, [centroids, centroids.flip(0)])


CLUSTER_LOSSES: Mapping[str, Callable[[Views], dict[str, Tensor]]] = {
    "bridle": lambda views: bridle_loss(views[0]),
    "deepcluster": deepcluster,
    "deepcluster_v2": deepcluster_v2,
    "iic": lambda views: iic_loss(views[0], views[1], lamb=1.5),
    "imax": lambda views: imax_loss(views[0], views[1], ridge=0.1),
    "imsat": lambda views: imsat_loss(views[0], views[1]),
    "noise_as_targets": lambda views: noise_as_targets_loss(views[0], normalize(views[1].detach())),
    "scan": lambda views: scan_loss(views[0], views[1]),
    **{
        f"scan_self_labeling_{form}": partial(
            lambda views, balanced: scan_self_labeling_loss(views[0], views[1], threshold=0.3, balanced=balanced),
            balanced=form == "balanced",
        )
        for form in ("balanced", "plain")
    },
    "sela": lambda views: sela_loss(torch.stack([*views[:2]]), torch.stack([labels(views, 7), labels(views, 3)])),
    "self_classifier": self_classifier_loss,
    **{f"infomax_{name}": partial(infomax, measure=name) for name in ("jsd", "kl", "nce", "dv")},
}
