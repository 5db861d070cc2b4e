import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from gemel.errors import UserError
from gemel.metrics.classification import mean_per_class_accuracy, per_class_accuracy, topk_accuracy


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_top_k_as_scikit_learn(seed: int, k: int) -> None:
    random = np.random.default_rng(seed)
    scores, labels = random.normal(size=(20, 7)), random.integers(7, size=20)
    expected = top_k_accuracy_score(labels, scores, k=k, labels=range(7))
    assert topk_accuracy(torch.from_numpy(scores), torch.from_numpy(labels), k) == pytest.approx(expected)


def test_constant_scores_are_no_success() -> None:
    labels = torch.arange(10)
    assert topk_accuracy(torch.zeros(10, 10), labels, 1) == 0.1
    assert topk_accuracy(torch.full((10, 10), torch.nan), labels, 5) == 0


def test_all_classes_and_unknown_labels() -> None:
    scores = torch.eye(3)
    assert topk_accuracy(scores, torch.tensor([2, 0, 1]), 3) == 1
    assert topk_accuracy(scores, torch.tensor([0, -1, 0]), 1) == 0.5
    assert topk_accuracy(scores.int(), torch.tensor([0, 1, 2], dtype=torch.int32), 1) == 1


def test_mean_per_class_of_the_specification() -> None:
    labels = torch.tensor([0] * 8 + [1] * 2)
    predicted = torch.zeros(10, dtype=torch.int64)
    assert topk_accuracy(torch.eye(2)[predicted], labels, 1) == pytest.approx(0.8)
    assert per_class_accuracy(predicted, labels) == {0: 1, 1: 0}
    assert mean_per_class_accuracy(predicted, labels) == 0.5


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_mean_per_class_as_scikit_learn(drawn: list[tuple[int, int]]) -> None:
    labels, _ = np.array(drawn).T
    predicted = np.array([found if found in labels else label for label, found in drawn])
    assume(len(set(labels)) > 1)  # scikit-learn warns of a single one
    expected = balanced_accuracy_score(labels, predicted)
    assert mean_per_class_accuracy(torch.from_numpy(predicted), torch.from_numpy(labels)) == pytest.approx(expected)


def test_mistakes() -> None:
    scores, labels = torch.zeros(2, 3), torch.tensor([0, 1])
    for k in (0, 4):
        with pytest.raises(UserError, match=f"top-{k} of 3"):
            topk_accuracy(scores, labels, k)
    for wrong in (torch.tensor([0, 3]), torch.tensor([-1, -1])):
        with pytest.raises(UserError, match="0 to 2"):
            topk_accuracy(scores, wrong, 1)
    with pytest.raises(UserError, match="give"):
        topk_accuracy(scores, torch.zeros(3), 1)
    with pytest.raises(UserError, match="give"):
        per_class_accuracy(labels, torch.zeros(3))
    with pytest.raises(UserError, match="none of 2"):
        per_class_accuracy(labels, torch.tensor([-1, -1]))
