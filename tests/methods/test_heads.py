"""Heads that take several views in one pass."""

from typing import cast

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from gemel.methods.parts.heads import Norm, mlp, view_by_view


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_views_together_are_views_by_themselves(norm: Norm) -> None:
    """In value, gradient and running statistics; and one pass over all views is something else."""
    found: list[list[Tensor]] = []
    for together in (True, False):
        torch.manual_seed(0)
        head = mlp(6, 8, 8, 5, norm=norm).double()
        views = [torch.randn(7, 6, dtype=torch.float64, requires_grad=True) + shift for shift in (0, 3, 9)]
        made = view_by_view(head, views) if together else [head(view) for view in views]
        sum((one * torch.randn_like(one)).sum() for one in made).backward()  # type: ignore[union-attr]
        gradients = [cast(Tensor, one.grad) for one in head.parameters()]
        found.append([*made, *gradients, *head.state_dict().values()])
        if norm == "batch":
            assert not torch.allclose(made[0], head(torch.cat(views))[:7])
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        assert_close(one, other)
