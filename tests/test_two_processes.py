"""Several processes on contiguous parts of a batch equal one on the whole, in loss and gradient."""

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from gemel.distributed import gather, mean_over_processes, rank, world_size
from gemel.methods.barlow_twins import barlow_twins_loss
from gemel.methods.twist import twist_loss

ROWS, WIDTH = 12, 7
LOSSES = {
    "twist": twist_loss,
    "barlow_twins": partial(barlow_twins_loss, form="correlation"),
    "barlow_twins_gram": partial(barlow_twins_loss, form="gram"),
}


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64) for _ in range(2))
    return one, one + 0.3 * two


def terms_and_gradient(name: str) -> tuple[dict[str, Tensor], Tensor]:
    """Terms of the loss, and what DDP's mean makes of the gradients by a linear layer that every process holds."""
    weight = torch.eye(WIDTH, dtype=torch.float64).requires_grad_()
    rows = ROWS // world_size()
    part = slice(rank() * rows, (rank() + 1) * rows)
    one, two = (view[part] @ weight for view in inputs())
    terms = LOSSES[name](one, two)
    terms["loss"].backward()
    assert weight.grad is not None
    if world_size() > 1:
        dist.all_reduce(weight.grad)
    return {key: value.detach() for key, value in terms.items()}, weight.grad / world_size()


def work(number: int, processes: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=number, world_size=processes)
    found: dict[str, object] = {name: terms_and_gradient(name) for name in LOSSES}
    rows = torch.full((2, 3), float(number), dtype=torch.float64).requires_grad_()
    joined = gather(rows)
    (joined * torch.arange(len(joined)).double()[:, None]).sum().backward()
    found["gather"] = (joined.detach(), rows.grad)
    mean = mean_over_processes(torch.tensor(float(number)))
    found["mean"] = mean
    torch.save(found, f"{folder}/{number}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("processes", [2, 3])
def test_several_equal_one(processes: int, tmp_path: Path) -> None:
    mp.spawn(work, (processes, str(tmp_path)), nprocs=processes)  # pyright: ignore[reportPrivateImportUsage]
    whole = {name: terms_and_gradient(name) for name in LOSSES}
    for number in range(processes):
        found = torch.load(tmp_path / f"{number}.pt", weights_only=True)
        for name, (terms, gradient) in whole.items():
            torch.testing.assert_close(found[name][0], terms, rtol=1e-10, atol=1e-12)
            assert (found[name][1] - gradient).norm() <= 1e-10 * gradient.norm(), name
        joined, gradient = found["gather"]
        assert joined[:, 0].tolist() == [float(one) for one in range(processes) for _ in range(2)]
        # every process adds the same loss: the backward's sum counts it once for each
        expected = processes * torch.arange(2 * number, 2 * number + 2).double()[:, None].expand(2, 3)
        torch.testing.assert_close(gradient, expected)
        assert float(found["mean"]) == (processes - 1) / 2


def test_one_process_is_the_identity() -> None:
    rows = torch.ones(2, 3)
    assert gather(rows) is rows
    assert mean_over_processes(rows) is rows
