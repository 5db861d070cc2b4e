"""Divisions of a graph of neighbours: their modularity beside all possible ones, and where classes are known."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gemel.data.neighbour_table import neighbours
from gemel.metrics.divisions import divisions
from gemel.metrics.modularity import modularity


@st.composite
def graphs(draw: st.DrawFn) -> Tensor:
    rows = draw(st.integers(3, 7))
    count = draw(st.integers(1, rows - 1))
    others = [[other for other in range(rows) if other != row] for row in range(rows)]
    return torch.tensor([draw(st.permutations(one))[:count] for one in others])


@given(graphs())
def test_no_division_is_said_to_be_better_than_the_best(near: Tensor) -> None:
    rows = len(near)
    best: dict[int, float] = {}
    for one in product(range(rows), repeat=rows):
        size = len(set(one))
        if max(one) + 1 == size:
            best[size] = max(modularity(torch.tensor(one), near), best.get(size, -1.0))
    found = divisions(near, torch.arange(rows))
    assert found
    assert all(value <= best[size] + 1e-6 for size, value in found.items())


@pytest.mark.parametrize("kinds", [2, 5, 9])
def test_kinds_that_are_apart_are_divided_best(kinds: int) -> None:
    labels = torch.arange(kinds).repeat_interleave(30)
    random = torch.Generator().manual_seed(0)
    rows = 9 * torch.eye(kinds)[labels] + torch.randn(len(labels), kinds, generator=random)
    near = torch.from_numpy(neighbours(rows, 15))
    start = torch.randint(40, (len(labels),), generator=random)
    found = divisions(near, start)
    assert max(found, key=lambda size: found[size]) == kinds
    assert found[kinds] == pytest.approx(modularity(labels, near), abs=1e-6)
    assert divisions(near, start) == found
    assert min(found) == 2


def test_where_none_gains_there_is_one_class() -> None:
    near = torch.tensor([[other for other in range(6) if other != row] for row in range(6)])
    assert divisions(near, torch.arange(6))[1] == 0.0
