"""Modularity against networkx, and what it is of a single class."""

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gemel.metrics.modularity import modularity


@given(st.integers(2, 40), st.integers(1, 5), st.integers(1, 6), st.integers(0, 10_000))
def test_it_is_networkx(rows: int, k: int, classes: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    near = torch.randint(rows - 1, (rows, k), generator=random)
    near += near >= torch.arange(rows)[:, None]  # no row is its own neighbour
    found = torch.randint(classes, (rows,), generator=random)
    graph = nx.MultiGraph()
    graph.add_nodes_from(range(rows))
    graph.add_edges_from((row, other) for row, others in enumerate(near.tolist()) for other in others)
    groups = [{row for row in range(rows) if found[row] == one} for one in range(classes)]
    assert modularity(found, near) == pytest.approx(nx.community.modularity(graph, groups), abs=1e-9)


def test_one_class_is_worth_nothing() -> None:
    assert modularity(torch.zeros(9, dtype=torch.int64), torch.randint(9, (9, 2))) == 0
