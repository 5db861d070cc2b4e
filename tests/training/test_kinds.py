"""The number of kinds: what a curve says, heads of several sizes in one product, and sets that are known."""

import numpy as np
import pytest
import torch

from gemel.data.neighbour_table import neighbours
from gemel.training import kinds
from gemel.training.kinds import SIZES, count_kinds, heads_of, judged


@pytest.mark.parametrize(
    ("curve", "noise", "expected"),
    [
        ({4: 0.72, 6: 0.79, 7: 0.80, 8: 0.87, 9: 0.84}, {4: 0.38, 8: 0.38}, (8, 8, 8, True)),
        ({4: 0.73, 9: 0.860, 10: 0.880, 11: 0.884, 12: 0.879, 13: 0.870}, {4: 0.38, 11: 0.37}, (11, 10, 13, True)),
        ({13: 0.889, 14: 0.891, 16: 0.896, 18: 0.885, 20: 0.869}, {16: 0.35}, (16, 13, 19, True)),
        ({2: 0.499, 3: 0.54, 6: 0.606, 8: 0.58}, {2: 0.29, 3: 0.36, 6: 0.39}, (2, 2, 2, True)),
        ({2: 0.31, 3: 0.37, 6: 0.43, 7: 0.42, 8: 0.41}, {2: 0.29, 3: 0.36, 6: 0.39}, (6, 5, 7, False)),
    ],
    ids=["a peak", "a broad one", "between the sizes that are tried", "two kinds, each with parts", "noise"],
)
def test_what_a_curve_says(
    curve: dict[int, float], noise: dict[int, float], expected: tuple[int, int, int, bool]
) -> None:
    found = judged(curve, noise)
    assert found[:4] == expected
    assert ("one kind" in found.reason) != expected[3]
    assert found.low == found.high or f"{found.low} to {found.high}" in found.reason


def test_heads_use_the_classes_that_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "STEPS", 30)
    rows = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    near = torch.from_numpy(neighbours(rows, 5))
    sizes = [2, 3, 8, 9, 40]
    before = torch.random.get_rng_state()
    found = heads_of(rows, near, sizes, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())
    assert [classes.shape for classes in found] == [(kinds.HEADS, 60)] * 5
    assert all(int(classes.max()) < size for classes, size in zip(found, sizes, strict=True))
    again = heads_of(rows, near, sizes, seed=0)
    assert all(torch.equal(one, two) for one, two in zip(found, again, strict=True))


@pytest.mark.parametrize("true", [2, 5])
def test_clusters_that_are_far_apart_are_counted(true: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "STEPS", 150)
    random = np.random.default_rng(0)
    centres = 6 * np.eye(5, 8)[:true]
    rows = centres[random.integers(true, size=300)] + random.standard_normal((300, 8))
    found = count_kinds(torch.from_numpy(rows.astype(np.float32)), most=8)
    assert found.number == true
    assert found.is_clear
    assert [size for size, _ in found.curve] == [size for size in SIZES if size <= 8]


def test_noise_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "STEPS", 150)
    rows = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    found = count_kinds(rows, most=12)
    assert not found.is_clear
    assert "one kind" in found.reason
