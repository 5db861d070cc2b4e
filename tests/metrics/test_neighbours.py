from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor

from gemel.errors import UserError
from gemel.metrics.neighbours import knn_accuracies, knn_accuracy, knn_votes, nearest


def features(seed: int, rows: int, width: int = 5) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, width)))


def brute_force_votes(queries: Tensor, bank: Tensor, labels: Tensor, k: int, temperature: float) -> list[list[int]]:
    """Classes with votes, best first, for each query."""
    answers: list[list[int]] = []
    for query in queries:
        cosine = [float(query @ row / query.norm() / row.norm()) for row in bank]
        votes: dict[int, float] = {}
        for index in sorted(range(len(bank)), key=lambda row: -cosine[row])[:k]:
            label = int(labels[index])
            votes[label] = votes.get(label, 0.0) + np.exp(cosine[index] / temperature)
        answers.append(sorted(votes, key=lambda label: (-votes[label], label)))
    return answers


def test_votes_of_the_specification() -> None:
    near, index, labels = torch.tensor([[0.9, 0.8, 0.79]]), torch.tensor([[0, 1, 2]]), torch.tensor([0, 1, 1])
    for dtype in (torch.float16, torch.float32, torch.float64):
        assert knn_votes(near.to(dtype), index, labels, k=3).tolist() == [0]
        assert knn_votes(near.to(dtype), index, labels, k=3, temperature=1.0).tolist() == [1]


def test_ties_go_to_the_lowest_label() -> None:
    near, index = torch.ones(1, 4), torch.tensor([[0, 1, 2, 3]])
    assert knn_votes(near, index, torch.tensor([9, 3, 3, 9]), k=4).tolist() == [3]
    assert knn_votes(near, index, torch.tensor([9, 3, 3, 9]), k=1).tolist() == [9]


def test_unknown_neighbours_do_not_vote() -> None:
    near, index = torch.tensor([[0.9, 0.1]]), torch.tensor([[0, 1]])
    assert knn_votes(near, index, torch.tensor([-1, 4]), k=2).tolist() == [4]
    assert knn_votes(near, index, torch.tensor([-1, 4]), k=1).tolist() == [-1]


def test_small_temperatures_do_not_overflow() -> None:
    near, index = torch.tensor([[1.0, -1.0, -1.0]]), torch.tensor([[0, 1, 2]])
    assert knn_votes(near, index, torch.tensor([1, 0, 0]), k=3, temperature=1e-3).tolist() == [1]


@given(st.integers(0, 2**32), st.integers(1, 12), st.sampled_from([0.05, 0.07, 1.0]))
def test_accuracy_by_brute_force(seed: int, k: int, temperature: float) -> None:
    random = np.random.default_rng(seed)
    queries, bank = features(seed, 9), features(seed + 1, 12)
    labels, truth = (torch.from_numpy(random.integers(0, 6, n) * 10) for n in (12, 9))
    ranked = brute_force_votes(queries, bank, labels, k, temperature)
    expected = {"top1": np.mean([answer[0] == label for answer, label in zip(ranked, truth, strict=True)])}
    if len(labels.unique()) >= 5:
        expected["top5"] = np.mean([label in answer[:5] for answer, label in zip(ranked, truth.tolist(), strict=True)])
    found = knn_accuracy(queries, bank, truth, labels, k=k, temperature=temperature)
    assert found == pytest.approx(expected)


@given(st.integers(0, 2**32), st.integers(1, 10), st.integers(1, 11), st.booleans())
def test_chunks_do_not_matter(seed: int, k: int, chunk: int, leave_one_out: bool) -> None:
    bank = features(seed, 11)
    whole, parts = (nearest(bank, bank, k, leave_one_out=leave_one_out, chunk=size) for size in (None, chunk))
    torch.testing.assert_close(whole, parts)
    expected = torch.nn.functional.cosine_similarity(bank[:, None], bank[None], dim=2)
    if leave_one_out:
        expected.fill_diagonal_(-2)
    torch.testing.assert_close(whole[0], expected.sort(dim=1, descending=True).values[:, :k])
    torch.testing.assert_close(expected.gather(1, whole[1]), whole[0])


@pytest.mark.parametrize("rows", [400, 1000, 1013])
@pytest.mark.parametrize("k", [1, 5, 31])
def test_blocks_do_not_matter(rows: int, k: int) -> None:
    queries, bank = features(0, 7), features(1, rows).round(decimals=1)  # with ties
    expected = torch.nn.functional.cosine_similarity(queries[:, None], bank[None], dim=2)
    for chunk in (None, 600):
        similarity, index = nearest(queries, bank, k, chunk=chunk)
        torch.testing.assert_close(similarity, expected.sort(dim=1, descending=True).values[:, :k])
        torch.testing.assert_close(expected.gather(1, index), similarity)
        assert all(len(set(row)) == k for row in index.tolist())


def test_all_k_at_once() -> None:
    queries, bank = features(0, 30), features(1, 80)
    truth, labels = torch.arange(30) % 6, torch.arange(80) % 6
    found = knn_accuracies(queries, bank, truth, labels, ks=(3, 50, 10))
    assert list(found) == [3, 50, 10]
    assert found == {k: knn_accuracy(queries, bank, truth, labels, k=k) for k in (3, 50, 10)}


def test_a_bank_mapped_from_a_file(tmp_path: Path) -> None:
    rows = features(0, 100).float().numpy()
    np.save(tmp_path / "rows.npy", rows)
    mapped = torch.from_numpy(np.load(tmp_path / "rows.npy", mmap_mode="c"))
    torch.testing.assert_close(nearest(mapped, mapped, 4), nearest(*[torch.from_numpy(rows)] * 2, 4))


def test_leave_one_out_finds_the_twin() -> None:
    rows = features(0, 50).repeat(2, 1)
    labels = torch.arange(50).repeat(2)
    assert knn_accuracy(rows, rows, labels, labels, k=1, leave_one_out=True) == {"top1": 1, "top5": 1}
    assert (nearest(rows, rows, 1, leave_one_out=True)[1][:, 0] == (torch.arange(100) + 50) % 100).all()


def test_digits_by_their_pixels() -> None:
    images, labels = load_digits(return_X_y=True)
    rows, labels = torch.from_numpy(images).float(), torch.from_numpy(labels)
    found = knn_accuracy(rows, rows, labels, labels, k=1, leave_one_out=True)
    assert found["top1"] == pytest.approx(0.989, abs=0.002)


def test_rows_without_a_label_are_left_out_before_the_search() -> None:
    bank = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    labels = torch.tensor([-1, -1, 2])
    queries, truth = torch.tensor([[1.0, 0.0], [5.0, 5.0]]), torch.tensor([2, -1])
    assert knn_accuracy(queries, bank, truth, labels, k=1) == {"top1": 1}


def test_few_neighbours_fill_no_five_classes() -> None:
    bank, labels = torch.eye(6), torch.arange(6)
    assert knn_accuracy(bank, bank, labels, labels.roll(1), k=1) == {"top1": 0, "top5": 0}


def test_zeros_are_near_to_nothing() -> None:
    similarity, _ = nearest(torch.zeros(1, 3), torch.eye(3), 3)
    assert similarity.tolist() == [[0, 0, 0]]


def test_mistakes() -> None:
    rows, labels = torch.eye(3), torch.arange(3)
    for k in (0, 4):
        with pytest.raises(UserError, match=f"{k} neighbours out of 3"):
            nearest(rows, rows, k)
    with pytest.raises(UserError, match="3 neighbours out of 2"):
        nearest(rows, rows, 3, leave_one_out=True)
    with pytest.raises(UserError, match="20 neighbours out of 3"):
        knn_accuracy(rows, rows, labels, labels)
    with pytest.raises(UserError, match="itself"):
        nearest(rows[:2], rows, 1, leave_one_out=True)
    with pytest.raises(UserError, match="width 2 in a bank of width 3"):
        nearest(rows[:, :2], rows, 1)
    with pytest.raises(UserError, match="diverged"):
        nearest(rows * torch.nan, rows, 1)
    with pytest.raises(UserError, match="shape"):
        nearest(rows[:0], rows, 1)
    with pytest.raises(UserError, match="2 labels for 3 rows of the bank"):
        knn_accuracy(rows, rows, labels, labels[:2], k=1)
    with pytest.raises(UserError, match="no row of the queries"):
        knn_accuracy(rows, rows, labels * 0 - 1, labels, k=1)
    near, index = nearest(rows, rows, 2)
    with pytest.raises(UserError, match="3 neighbours out of 2"):
        knn_votes(near, index, labels, k=3)
    with pytest.raises(UserError, match="temperature 0"):
        knn_votes(near, index, labels, k=2, temperature=0)
