from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from gemel.errors import UserError
from gemel.metrics.clustering import clustering_scores, match_classes, silhouette

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=40)


def test_numbers_of_the_specification() -> None:
    scores = clustering_scores([0, 0, 0, 1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2, 0, 0, 3])
    expected = {
        "nmi": 0.911940, "nmi_max": 0.838134, "ami": 0.854641, "ami_max": 0.746178, "ari": 0.84, "acc": 8 / 9,
        "purity": 1.0, "f": 0.881917, "classes_used": 4.0,
    }  # fmt: skip
    assert scores == pytest.approx(expected, abs=1e-6)
    assert all(type(score) is float for score in scores.values())


def test_information_alone_rewards_many_classes() -> None:
    labels = np.arange(100) % 10
    each_for_itself = clustering_scores(labels, np.arange(100))
    assert each_for_itself["nmi"] == pytest.approx(2 / 3)
    assert each_for_itself["ari"] == 0
    assert each_for_itself["ami"] == pytest.approx(0, abs=1e-12)
    together = clustering_scores(labels, np.zeros(100, int))
    assert [together[name] for name in ("nmi", "ari", "ami", "ami_max", "acc")] == [0, 0, 0, 0, 0.1]


@given(pairs)
def test_as_scikit_learn(drawn: list[tuple[int, int]]) -> None:
    labels, classes = np.array(drawn).T
    scores = clustering_scores(labels, classes)
    expected = {
        "nmi": oracle.normalized_mutual_info_score(labels, classes),
        "nmi_max": oracle.normalized_mutual_info_score(labels, classes, average_method="max"),
        "ari": oracle.adjusted_rand_score(labels, classes),
        "f": oracle.fowlkes_mallows_score(labels, classes),
    }
    # Where every image stands for itself scikit-learn divides 0 by 0 and answers by its rounding errors.
    if not len(set(labels)) == len(set(classes)) == len(labels):
        expected["ami"] = oracle.adjusted_mutual_info_score(labels, classes)
        expected["ami_max"] = oracle.adjusted_mutual_info_score(labels, classes, average_method="max")
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("images", "classes", "kinds"), [(5000, 300, 40), (20_000, 3, 3), (3000, 2500, 7)])
def test_expected_information_of_many_images(images: int, classes: int, kinds: int) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(kinds, size=images) ** 2 // kinds  # of unequal sizes
    found = np.where(random.random(images) < 0.3, labels, random.integers(classes, size=images))
    expected = oracle.adjusted_mutual_info_score(labels, found)
    assert clustering_scores(labels, found)["ami"] == pytest.approx(expected, abs=1e-9)


@given(pairs)
def test_accuracy_is_the_best_permutation(drawn: list[tuple[int, int]]) -> None:
    labels, classes = np.array(drawn).T
    # six possible classes on five labels and one that nothing has
    best = max(np.mean(np.array(order)[classes] == labels) for order in permutations(range(6)))
    assert clustering_scores(labels, classes)["acc"] == pytest.approx(best)
    meant = match_classes(labels, classes)
    assert np.mean([meant.get(found) == label for found, label in zip(classes, labels, strict=True)]) == best
    assert len(set(meant.values())) == len(meant) == min(len(set(labels)), len(set(classes)))


@given(pairs)
def test_majority(drawn: list[tuple[int, int]]) -> None:
    labels, classes = np.array(drawn).T
    meant = match_classes(labels, classes, one_to_one=False)
    for found, label in meant.items():
        inside = labels[classes == found]
        counts = np.bincount(inside, minlength=5)
        assert label == counts.argmax()
    purity = np.mean([meant[found] == label for found, label in zip(classes, labels, strict=True)])
    assert clustering_scores(labels, classes)["purity"] == pytest.approx(purity)


@given(pairs, st.permutations(range(6)), st.integers(-(2**60), 2**60))
def test_names_of_classes_do_not_matter(drawn: list[tuple[int, int]], order: list[int], offset: int) -> None:
    labels, classes = np.array(drawn).T
    renamed = np.array(order, np.int64)[classes] * 1000 + offset
    assert clustering_scores(labels, renamed) == pytest.approx(clustering_scores(labels, classes), abs=1e-12)


@given(pairs)
def test_symmetric(drawn: list[tuple[int, int]]) -> None:
    labels, classes = np.array(drawn).T
    there, back = clustering_scores(labels, classes), clustering_scores(classes, labels)
    for name in ("nmi", "nmi_max", "ami", "ami_max", "ari", "f", "acc"):
        assert there[name] == pytest.approx(back[name], abs=1e-9)


@given(st.permutations(range(8)))
def test_a_permutation_is_right(order: list[int]) -> None:
    labels = np.arange(80) % 8
    scores = clustering_scores(labels, np.array(order)[labels])
    assert [scores[name] for name in ("acc", "ari", "purity")] == [1, 1, 1]
    assert [scores[name] for name in ("nmi", "ami", "ami_max", "f")] == pytest.approx([1, 1, 1, 1])


def test_unknown_labels_are_left_out() -> None:
    labels, classes = [0, 0, 1, 1, -1, -1], [3, 3, 4, 4, 5, 3]
    assert clustering_scores(labels, classes) == clustering_scores([0, 0, 1, 1], [3, 3, 4, 4])
    assert match_classes(labels, classes) == {3: 0, 4: 1}
    assert clustering_scores(classes, labels)["classes_used"] == 3  # -1 among classes is a class


def test_one_image() -> None:
    assert set(clustering_scores([7], [3]).values()) == {1.0, 0.0}
    assert clustering_scores([7], [3])["f"] == 0  # no pair at all, as scikit-learn


@pytest.mark.parametrize(
    "kind",
    [
        list,
        tuple,
        torch.tensor,
        lambda x: torch.tensor(x, dtype=torch.float64, requires_grad=True),
        np.uint8,
        np.float32,
    ],
)
def test_any_kind_of_numbers(kind: Callable[[list[int]], Any]) -> None:
    assert match_classes(kind([0, 0, 1]), kind([2, 2, 0])) == {0: 1, 2: 0}


@pytest.mark.parametrize(
    ("labels", "classes", "word"),
    [
        ([0, 1], [0], "2 labels for 1 classes"),
        ([-1, -1], [0, 1], "none of 2"),
        ([], [], "none of 0"),
        ([0.5, 1], [0, 1], "not whole"),
        ([0, 1], [0, float("nan")], "not whole"),
        ([0, 1], [0, float("inf")], "not whole"),
        ([[0, 1]], [0, 1], r"shape \(1, 2\)"),
        (["cat", "dog"], [0, 1], "whole numbers"),
    ],
)
def test_mistakes(labels: list[Any], classes: list[Any], word: str) -> None:
    for function in (clustering_scores, match_classes):
        with pytest.raises(UserError, match=word):
            function(labels, classes)


def test_many_classes() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(1000, size=50_000)
    classes = np.where(random.random(50_000) < 0.4, labels, random.integers(4096, size=50_000))
    assert 0.39 < clustering_scores(labels, classes)["acc"] < 0.42


def test_silhouette_by_hand() -> None:
    points = torch.tensor([[0.0], [1.0], [10.0], [11.0], [30.0]])
    of_images = [0.904762, 0.894737, 0.894737, 0.904762, 0.0]
    assert silhouette(points, [0, 0, 1, 1, 2]) == pytest.approx(np.mean(of_images), abs=1e-6)
    assert silhouette(points, np.arange(5)) == 0, "each image alone in its class"


@given(st.integers(0, 2**32), st.integers(4, 60), st.integers(2, 6), st.sampled_from([0.0, 1e4]))
def test_an_offset_of_the_features_does_not_change_the_silhouette(seed: int, rows: int, kinds: int, far: float) -> None:
    random = np.random.default_rng(seed)
    features, found = random.normal(size=(rows, 3)), random.integers(0, kinds, rows) * 7
    if 2 <= len(set(found)) < rows:
        assert silhouette(features + far, found) == pytest.approx(oracle.silhouette_score(features, found), abs=1e-6)


def test_silhouette_of_equal_rows_and_mistakes() -> None:
    assert silhouette(torch.full((6, 2), 1e3), [0, 0, 0, 1, 1, 1]) == 0
    apart = torch.tensor([[1e3, 0.0]] * 2 + [[1e3, 1.0]] * 2)
    assert silhouette(apart, [0, 0, 1, 1]) == 1
    with pytest.raises(UserError, match="one class alone"):
        silhouette(torch.eye(3), [1, 1, 1])
    with pytest.raises(UserError, match="give one class for each row"):
        silhouette(torch.eye(3), [1, 1])
