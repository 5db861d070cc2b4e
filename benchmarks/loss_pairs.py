"""Losses of the relatives beside lightly's, on the same embeddings: what `loss.py --only relatives` measures.

Widths, queues and prototypes are the papers'; 128 images. Beside the loss both sides do what a step does with its
embeddings: codes of SwAV, DINO's centre, and MoCo's and DenseCL's queues.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gemel.methods.byol import byol_loss
from gemel.methods.densecl import densecl_loss
from gemel.methods.dino import dino_loss, moved_center
from gemel.methods.moco_v2 import moco_v2_loss
from gemel.methods.parts.contrast import unit
from gemel.methods.parts.queue import Queue
from gemel.methods.parts.sinkhorn import assignment
from gemel.methods.simclr import simclr_loss
from gemel.methods.simsiam import simsiam_loss
from gemel.methods.swav import swav_loss
from gemel.methods.vicreg import vicreg_loss
from gemel.methods.w_mse import w_mse_loss

Loss = Callable[[Sequence[Tensor]], Tensor]

ROWS, QUEUE, POSITIONS = 128, 65536, 4

BOUND = 5.0
"""what random numbers are divided by to be scores of prototypes, from -1 to 1"""


class Pair(NamedTuple):
    """A loss, and lightly's of the same name, of views (rows, width)."""

    views: int
    rows: int
    width: int
    ours: Callable[[], Loss]
    """makes the loss, with its queue or centre"""
    theirs: Callable[[], Loss]


def _simsiam() -> Loss:
    return lambda views: simsiam_loss(*views)["loss"]


def _cosines() -> Loss:
    from lightly.loss import NegativeCosineSimilarity

    loss = NegativeCosineSimilarity()
    return lambda views: (loss(views[0], views[3].detach()) + loss(views[1], views[2].detach())) / 2


def _byol() -> Loss:
    return lambda views: byol_loss(*views)["loss"]


def _simclr() -> Loss:
    return lambda views: simclr_loss(*views)["loss"]


def _nt_xent() -> Loss:
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(0.1)
    return lambda views: loss(*views)


def _moco() -> Loss:
    queue = Queue(128, QUEUE)

    def loss(views: Sequence[Tensor]) -> Tensor:
        queue.push(unit(views[1].detach()))  # here, as after the loss its backward pass still needs the queue
        return moco_v2_loss(views[0], views[1], queue.rows)["loss"]

    return loss


def _bank() -> Loss:
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(0.2, memory_bank_size=(QUEUE, 128))
    return lambda views: loss(views[0], views[1].detach())


def _densecl() -> Loss:
    """Views are rows by positions; matches are as they come."""
    queues = [Queue(128, QUEUE) for _ in range(2)]
    match = torch.arange(POSITIONS).repeat(ROWS, 1)

    def loss(views: Sequence[Tensor]) -> Tensor:
        one, two = (view.view(ROWS, POSITIONS, 128).transpose(1, 2) for view in views)
        key, grid = two.detach()[:, :, 0], two.detach()
        for queue, keys in zip(queues, (key, grid.mean(2)), strict=True):
            queue.push(unit(keys))
        return densecl_loss(one[:, :, 0], key, one, grid, match, queues[0].rows, queues[1].rows)["loss"]

    return loss


def _two_banks() -> Loss:
    from lightly.loss import NTXentLoss

    single, dense = (NTXentLoss(0.2, memory_bank_size=(QUEUE, 128)) for _ in range(2))

    def loss(views: Sequence[Tensor]) -> Tensor:
        one, two = (view.view(ROWS, POSITIONS, 128) for view in views)
        return (single(one[:, 0], two[:, 0].detach()) + dense(views[0], views[1].detach())) / 2

    return loss


def _vicreg() -> Loss:
    return lambda views: vicreg_loss(*views)["loss"]


def _their_vicreg() -> Loss:
    from lightly.loss import VICRegLoss

    loss = VICRegLoss()
    return lambda views: loss(*views)


def _w_mse() -> Loss:
    return lambda views: w_mse_loss(views, torch.rand(1, ROWS).argsort(1))["loss"]


def _their_w_mse() -> Loss:
    from lightly.loss import WMSELoss

    loss = WMSELoss(64, w_size=ROWS)
    return lambda views: loss(torch.cat(list(views)))


def _swav() -> Loss:
    def loss(views: Sequence[Tensor]) -> Tensor:
        scores = [view / BOUND for view in views]
        codes, entropies = zip(*(assignment(one.detach()) for one in scores), strict=True)
        return swav_loss(scores, codes, entropies=torch.stack(entropies))["loss"]

    return loss


def _their_swav() -> Loss:
    from lightly.loss import SwaVLoss

    loss = SwaVLoss()
    return lambda views: loss([view / BOUND for view in views], []).squeeze()


def _dino() -> Loss:
    center = torch.zeros(65536)

    def loss(views: Sequence[Tensor]) -> Tensor:
        targets = [view.detach() for view in views[2:]]
        found = dino_loss(views[:2], targets, center=center, teacher_temperature=0.04)["loss"]
        center.copy_(moved_center(center, torch.cat(targets), 0.9))
        return found

    return loss


def _their_dino() -> Loss:
    from lightly.loss import DINOLoss

    loss = DINOLoss()
    return lambda views: loss([view.detach() for view in views[2:]], list(views[:2]))


PAIRS: dict[str, Pair] = {
    "simclr": Pair(2, ROWS, 128, _simclr, _nt_xent),
    "moco_v2": Pair(2, ROWS, 128, _moco, _bank),
    "byol": Pair(4, ROWS, 256, _byol, _cosines),
    "simsiam": Pair(4, ROWS, 2048, _simsiam, _cosines),
    "vicreg": Pair(2, ROWS, 8192, _vicreg, _their_vicreg),
    "w_mse": Pair(2, ROWS, 64, _w_mse, _their_w_mse),
    "swav": Pair(2, ROWS, 3000, _swav, _their_swav),
    "dino": Pair(4, ROWS, 65536, _dino, _their_dino),
    "densecl": Pair(2, ROWS * POSITIONS, 128, _densecl, _two_banks),
}
