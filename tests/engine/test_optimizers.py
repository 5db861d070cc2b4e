"""LARS does the same whatever fits into one fused call."""

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from gemel.engine import optimizers
from gemel.engine.optimizers import Lars


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("flavour", ["L1", "L2"])
def test_cut_into_parts(flavour: Literal["L1", "L2"], decay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of one tensor, of some, and a tensor larger than a part: the same bits, and gradients as they were."""
    ends: list[list[Tensor]] = []
    for size in (2**25, 40, 1):
        monkeypatch.setattr(optimizers, "AT_A_TIME", size)
        torch.manual_seed(0)
        network = nn.Sequential(*(nn.Linear(5, 5) for _ in range(4)))
        optimizer = Lars(network.parameters(), 0.5, weight_decay=decay, flavour=flavour)
        for _ in range(3):
            optimizer.zero_grad()
            network(torch.randn(6, 5)).square().sum().backward()
            before = [one.grad.clone() for one in network.parameters() if one.grad is not None]
            optimizer.step()
            after = [one.grad for one in network.parameters() if one.grad is not None]
            assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
        ends.append([one.detach() for one in network.parameters()])
    assert all(torch.equal(*pair) for end in ends[1:] for pair in zip(ends[0], end, strict=True))
