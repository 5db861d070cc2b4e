"""The number of kinds: what the curve of agreement says, and heads of several sizes in one product."""

import numpy as np
import pytest
import torch

from gemel.data.neighbour_table import neighbours
from gemel.training import kinds
from gemel.training.kinds import count_kinds, heads_of, judged


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([(2, 0.1), (3, 0.5), (4, 0.9), (5, 0.7)], (4, 4, 4)),
        ([(7, 0.7), (8, 0.88), (9, 0.86), (10, 0.6)], (8, 8, 9)),
        ([(4, 0.3), (5, 0.7), (6, 0.6), (20, 0.75)], (5, 4, 6)),
        ([(2, 0.3)], (2, 2, 2)),
    ],
    ids=["one peak", "a broad one", "a later one is higher", "one size"],
)
def test_what_a_curve_says(curve: list[tuple[int, float]], expected: tuple[int, int, int]) -> None:
    found = judged(curve)
    assert (found.number, found.low, found.high) == expected
    assert str(found.number) in found.reason


def test_heads_use_the_classes_that_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "STEPS", 30)
    rows = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    table = torch.from_numpy(neighbours(rows, 5))
    found = heads_of(rows, table, [2, 3, 8, 9, 40], seed=0)
    assert [classes.shape for classes in found] == [(kinds.HEADS, 60)] * 5
    assert [int(classes.max()) < size for classes, size in zip(found, [2, 3, 8, 9, 40], strict=True)] == [True] * 5
    again = heads_of(rows, table, [2, 3, 8, 9, 40], seed=0)
    assert all((one == two).all() for one, two in zip(found, again, strict=True))


def test_clusters_that_are_far_apart_are_counted() -> None:
    random = np.random.default_rng(0)
    centres = 10 * np.eye(5, 8)
    rows = centres[random.integers(5, size=300)] + random.standard_normal((300, 8))
    found = count_kinds(torch.from_numpy(rows.astype(np.float32)), most=8)
    assert found.number == 5
    assert dict(found.curve)[5] > 0.95
