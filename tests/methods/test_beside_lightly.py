"""lightly's losses as a second oracle, where it is installed and right: values and gradients in one process.

It has none of MoCo v3, CMC and DenseCL. Its BYOL is two negative cosines without the factor of the paper, averaged, so
SimSiam's test stands for it. Its DINO rounds the teacher's temperature to float32.
"""

import warnings
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from gemel.methods.dino import dino_loss
from gemel.methods.moco_v2 import moco_v2_loss
from gemel.methods.parts.contrast import unit
from gemel.methods.parts.sinkhorn import sinkhorn
from gemel.methods.simclr import simclr_loss
from gemel.methods.simsiam import simsiam_loss
from gemel.methods.swav import swav_loss
from gemel.methods.vicreg import vicreg_loss
from gemel.methods.w_mse import w_mse_loss

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    theirs = pytest.importorskip("lightly.loss")

Loss = Callable[[Sequence[Tensor]], Tensor]
QUEUE = unit(torch.randn(40, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).T


def moco(views: Sequence[Tensor]) -> Tensor:
    loss = theirs.NTXentLoss(temperature=0.2, memory_bank_size=(40, 8)).double()
    loss.memory_bank.bank = QUEUE.T.clone()
    return loss(views[0], views[1].detach())


def simsiam(views: Sequence[Tensor]) -> Tensor:
    loss = theirs.NegativeCosineSimilarity()
    return (loss(views[0], views[3].detach()) + loss(views[1], views[2].detach())) / 2


def dino(views: Sequence[Tensor]) -> Tensor:
    loss = theirs.DINOLoss(8, warmup_teacher_temp_epochs=1).double()
    return loss([view.detach() for view in views[2:]], list(views), teacher_temp=0.0625)


PAIRS: dict[str, tuple[Loss, Loss]] = {
    "simclr": (
        lambda views: simclr_loss(views[0], views[1], temperature=0.5)["loss"],
        lambda views: theirs.NTXentLoss(temperature=0.5)(views[0], views[1]),
    ),
    "moco_v2": (lambda views: moco_v2_loss(views[0], views[1], QUEUE)["loss"], moco),
    "simsiam": (lambda views: simsiam_loss(*views)["loss"], simsiam),
    "vicreg": (
        lambda views: vicreg_loss(views[0], views[1])["loss"],
        lambda views: theirs.VICRegLoss()(views[0], views[1]),
    ),
    "w_mse": (
        lambda views: w_mse_loss(views[:2], torch.arange(24)[None])["loss"],
        lambda views: theirs.WMSELoss(8, w_size=24).double()(torch.cat(list(views[:2]))),
    ),
    "swav": (
        lambda views: swav_loss(views, [sinkhorn(view.detach()) for view in views[:2]])["loss"],
        lambda views: theirs.SwaVLoss()(list(views[:2]), list(views[2:]))[0],
    ),
    "dino": (
        lambda views: dino_loss(views, views[2:], center=torch.zeros(8).double(), teacher_temperature=0.0625)["loss"],
        dino,
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_equal(name: str) -> None:
    found: list[list[Tensor]] = []
    for loss in PAIRS[name]:
        generator = torch.Generator().manual_seed(0)
        views = [torch.randn(24, 8, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(4)]
        value = loss(views)
        value.backward()
        found.append([value.detach(), *(view.grad for view in views if view.grad is not None)])
    assert len(found[0]) == len(found[1])
    for ours, other in zip(*found, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-9, atol=1e-11)
