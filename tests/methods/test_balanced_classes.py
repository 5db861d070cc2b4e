"""Images move to the class that they are most like, and each class keeps its share."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize
from torch.testing import assert_close

from gemel.methods.parts import balanced_classes
from gemel.methods.parts.balanced_classes import balanced, shared_out
from gemel.metrics.clustering import clustering_scores


def planted(sizes: list[int], seed: int) -> tuple[Tensor, Tensor]:
    """Kinds, and rows of unit length around a direction for each."""
    kinds = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    generator = torch.Generator().manual_seed(seed)
    rows = torch.eye(len(sizes), 24)[kinds] + 0.1 * torch.randn(len(kinds), 24, generator=generator)
    return kinds, normalize(rows, dim=1)


def share(kinds: Tensor) -> Tensor:
    return torch.bincount(kinds) / len(kinds)


@given(st.lists(st.integers(20, 60), min_size=2, max_size=6), st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_a_third_of_a_kind_in_another_class_comes_home(sizes: list[int], seed: int) -> None:
    kinds, rows = planted(sizes, seed)
    votes = kinds.clone()
    votes[: sizes[0] // 3] = 1
    found = balanced(rows, votes, share(kinds))
    assert_close(found.sum(1), torch.ones(len(rows)))
    assert found.argmax(1).equal(kinds)


def test_classes_keep_their_shares() -> None:
    kinds, rows = planted([60, 20], 0)
    labels = shared_out(balanced(rows, kinds, torch.tensor([0.5, 0.5])), torch.tensor([0.5, 0.5]))
    assert_close(labels.sum(0), torch.tensor([40.0, 40.0]), atol=0.1, rtol=0)
    assert (labels.argmax(1)[60:] == 1).all(), "what is alike stays together"


def test_of_many_images_some_move_and_the_others_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balanced_classes, "ROWS", 100)
    kinds, rows = planted([400, 300, 300], 1)
    votes = kinds.clone()
    votes[:130] = 1
    assert clustering_scores(kinds, balanced(rows, votes, share(kinds)).argmax(1))["acc"] == 1


@pytest.mark.parametrize("rows", [torch.full((12, 4), torch.nan), torch.eye(4)[[0] * 12]], ids=["not finite", "alike"])
def test_nothing_to_tell(rows: Tensor) -> None:
    found = balanced(rows, torch.arange(12) % 3, torch.full((3,), 1 / 3))
    assert found.isfinite().all()
    assert_close(found, torch.full((12, 3), 1 / 3), atol=0.1, rtol=0)  # an image does not count itself
