"""Several processes on contiguous parts of a batch equal one on the whole, in loss and gradient."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from cluster_losses import CLUSTER_LOSSES
from forked import together
from gemel.distributed import any_of, from_first, gather, joined_rows, mean_over_processes, merged, rank, world_size
from gemel.engine.sync_batch_norm import SyncedBatchNorm
from gemel.methods.barlow_twins import barlow_twins_loss
from gemel.methods.byol import byol_loss
from gemel.methods.dino import dino_loss
from gemel.methods.moco_v3 import moco_v3_loss
from gemel.methods.parts.barlow_loss import Variant
from gemel.methods.parts.bunch_norm import BunchNorm
from gemel.methods.parts.cross_correlation import Form
from gemel.methods.parts.sinkhorn import sinkhorn
from gemel.methods.simclr import simclr_loss
from gemel.methods.simsiam import simsiam_loss
from gemel.methods.swav import swav_loss
from gemel.methods.twist import multi_crop_loss, self_labeling_loss, teacher_loss, twist_loss
from gemel.methods.vicreg import vicreg_loss
from gemel.methods.w_mse import w_mse_loss

ROWS, WIDTH, VIEWS = 12, 7, 4
Loss = Callable[[Sequence[Tensor]], dict[str, Tensor]]


def barlow(form: Form, **options: Any) -> Loss:
    return lambda views: barlow_twins_loss(views[0], views[1], form=form, **options)


def normalised(bunch: int | None) -> Loss:
    """Multi-crop TWIST behind the batch norm over groups, and what the norm remembers."""

    def loss(views: Sequence[Tensor]) -> dict[str, Tensor]:
        norm = BunchNorm(WIDTH, bunch=bunch)
        after = norm(torch.cat(list(views)), len(views)).chunk(len(views))
        return multi_crop_loss(after) | {"mean": norm.running_mean, "variance": norm.running_var}

    return loss


LOSSES: dict[str, Loss] = {
    "twist": lambda views: twist_loss(views[0], views[1]),
    "multi_crop": lambda views: multi_crop_loss(views, alpha=0.4, temperature=0.5),
    "multi_crop_log_softmax": lambda views: multi_crop_loss(views, epsilon=0.0),
    "teacher": lambda views: teacher_loss([view.detach() for view in views[2:]], views, alpha=0.4, beta=1.0),
    # groups smaller than, equal to and larger than a process's batch of 12, 6 or 4 rows
    **{f"self_labeling_{group}": partial(self_labeling_loss, quantile=0.5, group=group) for group in (2, 4, 6, 12)},
    **{f"bunch_norm_{bunch}": normalised(bunch) for bunch in (2, 12, None)},
    **{f"barlow_twins_{form}": barlow(form) for form in ("correlation", "gram")},
    **{
        f"barlow_twins_{name}_{form}": barlow(form, variant=variant)
        for form in ("correlation", "gram")
        for name, variant in {
            "features": Variant(normalisation="features", feature_scale="sum"),
            "centre": Variant(normalisation="centre"),
            "auto": Variant(redundancy_of="auto"),
            "temperature": Variant(temperature=0.5),
        }.items()
    },
}


def swapped(views: Sequence[Tensor]) -> dict[str, Tensor]:
    """SwAV with codes of the rows of all processes."""
    return swav_loss(views, [sinkhorn(view.detach()) for view in views[:2]])


RELATIVES: dict[str, Loss] = {
    "simclr": lambda views: simclr_loss(views[0], views[1]),
    "moco_v3": lambda views: moco_v3_loss(*views, temperature=0.2),
    "byol": lambda views: byol_loss(*views),
    "simsiam": lambda views: simsiam_loss(*views),
    "vicreg": lambda views: vicreg_loss(views[0], views[1]),
    "w_mse": lambda views: w_mse_loss(views, torch.arange(ROWS).flip(0)[None]),
    "swav": swapped,
    "dino": lambda views: dino_loss(
        views, views[2:], center=torch.linspace(0, 1, WIDTH, dtype=views[0].dtype), teacher_temperature=0.07
    ),
}
"""LOSSES of the relatives; what moves with their queues and banks is in training/test_processes.py"""


def losses(processes: int) -> dict[str, Loss]:
    """All of them, and groups of just a process's batch."""
    return LOSSES | RELATIVES | CLUSTER_LOSSES | {"bunch_norm_own": normalised(ROWS // processes)}


OFFICIAL = {form: barlow(form, match_official_gradient=True) for form in ("correlation", "gram")}


def inputs(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, *others = torch.randn(VIEWS, ROWS, WIDTH, generator=generator, dtype=torch.float64).unbind()
    return [view.to(dtype) for view in (first, *(first + 0.3 * other for other in others))]


def terms_and_gradient(loss: Loss, dtype: torch.dtype = torch.float64) -> tuple[dict[str, Tensor], Tensor]:
    """Terms of the loss, and what DDP's mean makes of the gradients by a linear layer that every process holds."""
    weight = torch.eye(WIDTH, dtype=dtype).requires_grad_()
    rows = ROWS // world_size()
    part = slice(rank() * rows, (rank() + 1) * rows)
    terms = loss([view[part] @ weight for view in inputs(dtype)])
    terms["loss"].backward()
    assert weight.grad is not None
    if world_size() > 1:
        dist.all_reduce(weight.grad)
    return {key: value.detach() for key, value in terms.items()}, weight.grad / world_size()


SHARES = {2: ((3, 5), (8, 0), (0, 8)), 3: ((3, 4, 1), (5, 0, 3), (0, 0, 8))}
"""rows of each process in a batch of 8"""


def normalised_rows(shares: Sequence[int], shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Two training steps of a synchronised norm, each process with its own number of rows.

    The rows lie far from 0. Gradients of the parameters are summed over processes; those of the input, and the
    output, are this process's own.
    """
    generator = torch.Generator().manual_seed(0)
    norm = SyncedBatchNorm((nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d)(shape[0]).double())
    norm.weight.data.normal_(generator=generator)
    start = sum(shares[: rank()])
    part = slice(start, start + shares[rank()] if world_size() > 1 else None)
    for _ in range(2):
        whole = (torch.randn(sum(shares), *shape, generator=generator) * 3 + 50).double()
        slopes = torch.randn(whole.shape, generator=generator).double()
        rows = whole[part].requires_grad_()
        norm.zero_grad()
        normed = norm(rows)
        (normed * slopes[part]).sum().backward()
    found = {"normed": normed.detach(), "rows": rows.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    found |= {"mean": norm.running_mean, "variance": norm.running_var}
    if world_size() > 1:
        for name in ("weight", "bias"):
            dist.all_reduce(found[name])
    return {name: value for name, value in found.items() if value is not None}


SHAPES = ((6,), (6, 3, 2))


def shared() -> dict[str, Any]:
    """What the helpers that take no gradient give."""
    rows = torch.full((rank() + rank() % 2, 2), rank())  # 0, 2, 2 rows
    return {
        "joined_rows": joined_rows(rows),
        "from_first": from_first(torch.tensor([1.5 + rank(), 2.0])),
        "from_first_bool": from_first(torch.tensor([rank() == 0])),
        "any_of": [any_of(rank() == 1), any_of(False)],
        "merged": merged({rank(): "here"}),
    }


def everything(processes: int) -> dict[str, object]:
    number = rank()
    found: dict[str, object] = {name: terms_and_gradient(loss) for name, loss in losses(processes).items()}
    found |= {f"{name} float32": terms_and_gradient(loss, torch.float32) for name, loss in losses(processes).items()}
    found |= {f"{form} official": terms_and_gradient(loss) for form, loss in OFFICIAL.items()}
    rows = torch.full((2, 3), float(number), dtype=torch.float64).requires_grad_()
    joined = gather(rows)
    (joined * torch.arange(len(joined)).double()[:, None]).sum().backward()
    found["gather"] = (joined.detach(), rows.grad)
    mean = mean_over_processes(torch.tensor(float(number)))
    found["mean"] = mean
    found["shared"] = shared()
    for shape in SHAPES:
        for shares in SHARES[processes]:
            found[f"norm {shares} {shape}"] = normalised_rows(shares, shape)
    return found


def assert_same(found: Any, terms: dict[str, Tensor], gradient: Tensor, tolerance: float, name: str) -> None:
    for key, value in terms.items():
        close = torch.allclose(found[0][key].double(), value.double(), rtol=tolerance, atol=tolerance / 10)
        assert close, f"{name}: {key} {found[0][key]} is not {value}"
    assert (found[1] - gradient).norm() <= tolerance * gradient.norm(), name


def assert_shared(found: dict[str, Any], processes: int) -> None:
    assert found["joined_rows"].tolist() == [[number] * 2 for number in range(1, processes) for _ in range(2)]
    assert found["from_first"].tolist() == [1.5, 2.0]
    assert found["from_first_bool"].tolist() == [True]
    assert found["any_of"] == [True, False]
    assert found["merged"] == dict.fromkeys(range(processes), "here")


@pytest.mark.parametrize("processes", [2, 3])
def test_several_equal_one(processes: int) -> None:
    whole = {name: terms_and_gradient(loss) for name, loss in losses(processes).items()}
    for number, found in enumerate(together(processes, everything, processes)):
        for name, (terms, gradient) in whole.items():
            assert_same(found[name], terms, gradient, 1e-10, name)
            assert_same(found[f"{name} float32"], terms, gradient, 1e-5, name)
        for form in OFFICIAL:
            terms, gradient = whole[f"barlow_twins_{form}"]
            assert_same(found[f"{form} official"], terms, gradient / processes, 1e-10, form)
        joined, gradient = found["gather"]
        assert joined[:, 0].tolist() == [float(one) for one in range(processes) for _ in range(2)]
        # every process adds the same loss: the backward's sum counts it once for each
        expected = processes * torch.arange(2 * number, 2 * number + 2).double()[:, None].expand(2, 3)
        torch.testing.assert_close(gradient, expected)
        assert float(found["mean"]) == (processes - 1) / 2
        assert_shared(found["shared"], processes)
        for shape, shares in product(SHAPES, SHARES[processes]):
            whole_rows = normalised_rows((8,), shape)
            own = slice(sum(shares[:number]), sum(shares[: number + 1]))
            for name, value in found[f"norm {shares} {shape}"].items():
                expected = whole_rows[name][own] if name in ("normed", "rows") else whole_rows[name]
                torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12, msg=f"{name} of {shares} {shape}")


def test_one_process_is_the_identity() -> None:
    rows = torch.ones(2, 3)
    assert gather(rows) is rows
    assert mean_over_processes(rows) is rows
    assert joined_rows(rows) is rows
    assert from_first(rows) is rows
    assert (any_of(True), any_of(False)) == (True, False)
