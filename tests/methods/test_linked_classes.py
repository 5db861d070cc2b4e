"""Classes of any sizes, where those of one size would cut through what lies together."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from gemel.methods.parts import linked_classes
from gemel.methods.parts.linked_classes import directions, uneven_classes
from gemel.metrics.clustering import clustering_scores


def kinds_of(sizes: tuple[int, ...]) -> Tensor:
    return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))


def drawn(kinds: Tensor, *, noise: float = 0.25, seed: int = 0) -> Tensor:
    """Features around a direction for each kind, far from the origin."""
    generator = torch.Generator().manual_seed(seed)
    around = torch.eye(int(kinds.max()) + 1, 24)[kinds] + noise * torch.randn(len(kinds), 24, generator=generator) / 5
    return 3 * around + 7.0


def cut(count: int, classes: int) -> Tensor:
    """Classes of one size, whatever the kinds."""
    return torch.arange(count) * classes // count


@given(st.lists(st.integers(8, 60), min_size=2, max_size=6), st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_kinds_of_any_sizes_are_found_unless_they_are_of_one_size(sizes: list[int], seed: int) -> None:
    kinds = kinds_of(tuple(sizes))
    rows, even = directions(drawn(kinds, seed=seed)), cut(len(kinds), len(sizes))
    found = uneven_classes(rows, even, len(sizes))
    if found is None:  # the cuts fall between the kinds, or nearly so
        assert clustering_scores(kinds, even)["acc"] > 0.9
    else:
        assert clustering_scores(kinds, found)["acc"] > 0.95  # a small cluster may hold images of two kinds
        assert len(found.unique()) == len(sizes)
    assert uneven_classes(rows, kinds, len(sizes)) is None, "classes that are as good stand"


def test_of_many_images_some_are_clustered_and_the_others_go_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linked_classes, "ROWS", 100)
    kinds = kinds_of((700, 200, 60, 40))[torch.randperm(1000, generator=torch.Generator().manual_seed(3))]
    found = uneven_classes(directions(drawn(kinds)), cut(1000, 4), 4)
    assert found is not None
    assert clustering_scores(kinds, found)["acc"] == 1


@pytest.mark.parametrize(
    "features",
    [torch.ones(40, 8), torch.eye(8)[:5], torch.full((40, 8), torch.nan), torch.eye(3, 8)[torch.arange(40) % 3]],
    ids=["alike", "few", "not finite", "of three kinds"],
)
def test_too_little_to_tell(features: Tensor) -> None:
    assert uneven_classes(directions(features), cut(len(features), 4), 4) is None


def test_directions_keep_angles_about_the_mean() -> None:
    features = drawn(kinds_of((20, 20)))
    rows = directions(features)
    around = torch.nn.functional.normalize(features - features.mean(0), dim=1)
    assert_close(rows @ rows.T, around @ around.T, rtol=1e-4, atol=1e-4)
    wide = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))
    assert directions(wide).shape == (300, linked_classes.COMPONENTS)
