"""The number of kinds: what a curve says, and sets of which it is known."""

import numpy as np
import pytest
import torch

from gemel.training.kinds import count_kinds, judged


@pytest.mark.parametrize(
    ("curve", "number", "above", "expected"),
    [
        ({4: 0.72, 6: 0.79, 7: 0.80, 8: 0.87, 9: 0.84, 10: 0.82}, 8, 0.5, (8, 8, 8, True)),
        ({4: 0.73, 9: 0.860, 10: 0.880, 11: 0.884, 12: 0.879, 13: 0.870}, 11, 0.5, (11, 10, 13, True)),
        ({13: 0.889, 14: 0.891, 16: 0.896, 18: 0.885, 20: 0.869}, 16, 0.5, (16, 13, 19, True)),
        ({2: 0.499, 3: 0.54, 6: 0.606, 8: 0.58}, 2, 0.1, (2, 2, 2, True)),
        ({2: 0.31, 3: 0.37, 6: 0.43, 7: 0.42, 8: 0.41}, 6, 0.1, (6, 5, 7, False)),
    ],
    ids=["a peak", "a broad one", "between the sizes that are known", "two kinds, each with parts", "noise"],
)
def test_what_a_curve_says(
    curve: dict[int, float], number: int, above: float, expected: tuple[int, int, int, bool]
) -> None:
    found = judged(curve, number, above)
    assert found[:4] == expected
    assert ("one kind" in found.reason) != expected[3]
    assert found.low == found.high or f"{found.low} to {found.high}" in found.reason


def _rows(kinds: int, images: int, dimensions: int = 16) -> torch.Tensor:
    random = np.random.default_rng(0)
    centres = 6 * np.eye(kinds, dimensions)
    found = centres[random.integers(kinds, size=images)] + random.standard_normal((images, dimensions))
    return torch.from_numpy(found.astype(np.float32))


@pytest.mark.parametrize(
    ("kinds", "images"), [(2, 300), (3, 120), (5, 300), (12, 900), (16, 4100)], ids=lambda count: str(count)
)
def test_clusters_that_are_far_apart_are_counted(kinds: int, images: int) -> None:
    before = torch.random.get_rng_state()
    found = count_kinds(_rows(kinds, images), most=images // 5)
    assert torch.equal(before, torch.random.get_rng_state())
    assert found.number == kinds
    assert found.is_clear
    assert found.low <= kinds <= found.high
    assert found.high - found.low <= 0.4 * kinds
    assert found == count_kinds(_rows(kinds, images), most=images // 5)


def test_parts_of_a_kind_are_not_kinds() -> None:
    """Of two kinds each has three parts, much nearer to one another than the kinds are."""
    random = np.random.default_rng(0)
    kinds, parts = random.integers(2, size=600), random.integers(3, size=600)
    rows = 30 * np.eye(8)[kinds] + 2 * np.eye(8)[2 + parts] + random.standard_normal((600, 8))
    assert count_kinds(torch.from_numpy(rows.astype(np.float32)), most=50).number == 2


def test_no_more_than_the_most_are_tried() -> None:
    found = count_kinds(_rows(9, 300), most=6)
    assert found.number <= 6
    assert max(size for size, _ in found.curve) <= 6


@pytest.mark.parametrize("images", [4, 5, 9, 30])
def test_few_vectors_are_counted_without_an_error(images: int) -> None:
    assert 2 <= count_kinds(_rows(2, images), most=images).number <= images


def test_equal_vectors_are_of_one_kind() -> None:
    assert not count_kinds(torch.zeros(200, 4), most=40).is_clear


def test_noise_is_told() -> None:
    rows = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    found = count_kinds(rows, most=12)
    assert not found.is_clear
    assert "one kind" in found.reason
