import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gemel.errors import UserError
from gemel.metrics import collapse


def normal(seed: int, rows: int, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, width))).to(dtype)


@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 20))
def test_rankme_is_the_formula(seed: int, rows: int, width: int) -> None:
    features = normal(seed, rows, width, torch.float64)
    share = np.linalg.svd(features.numpy(), compute_uv=False)
    share = share / share.sum() + 1e-7
    assert collapse.rankme(features) == pytest.approx(math.exp(-(share * np.log(share)).sum()))
    assert 0.999 <= collapse.rankme(features) <= min(rows, width) * 1.001


def test_rankme_of_low_rank_and_of_nothing() -> None:
    assert collapse.rankme(normal(0, 200, 3) @ normal(1, 3, 64)) == pytest.approx(3, abs=0.2)
    assert collapse.rankme(torch.ones(50, 64)) == pytest.approx(1, abs=1e-3)
    assert collapse.rankme(torch.zeros(50, 64)) == pytest.approx(1, abs=1e-3)
    assert math.isnan(collapse.rankme(torch.full((2, 2), torch.inf)))


def test_spread() -> None:
    assert collapse.spread(normal(0, 4000, 128)) == pytest.approx(1, abs=0.01)
    assert collapse.spread(normal(0, 100, 128) * 1e-3 + 1) < 0.01
    assert collapse.spread(normal(0, 100, 128) * 1e6) == pytest.approx(collapse.spread(normal(0, 100, 128)))
    assert collapse.spread(torch.zeros(4, 3)) == 0
    assert collapse.spread(torch.ones(1, 3)) == 0
    assert math.isnan(collapse.spread(torch.full((2, 2), torch.nan)))


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 9))
def test_spread_is_at_most_one(seed: int, rows: int, width: int) -> None:
    assert 0 <= collapse.spread(normal(seed, rows, width)) <= 1 + 1e-12


def test_columns_and_rows() -> None:
    logits = normal(0, 30, 7, torch.float64)
    columns, rows = collapse.column_and_row_std(logits)
    assert columns == pytest.approx(logits.numpy().std(axis=0).mean())
    assert rows == pytest.approx(logits.numpy().std(axis=1).mean())
    same_images, no_preference = collapse.column_and_row_std(logits[:1].expand(5, 7)), torch.arange(5.0)[:, None]
    assert same_images == (pytest.approx(0, abs=1e-12), pytest.approx(float(logits[0].std(correction=0))))
    assert collapse.column_and_row_std(no_preference.expand(5, 7))[1] == 0


def test_classes() -> None:
    assert collapse.classes_used(torch.eye(10)[[3, 3, 5]]) == 2
    assert collapse.classes_used(torch.tensor([[0.1, 0.9], [torch.nan, 0.0]])) == 1
    assert collapse.class_entropy(torch.eye(10)[[3] * 9]) == 1
    assert collapse.class_entropy(torch.full((4, 10), 0.1)) == pytest.approx(10)
    half = torch.tensor([[1.0, 0, 0]] * 3 + [[0, 1.0, 0]])
    assert collapse.class_entropy(half) == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_pair_agreement(dtype: torch.dtype) -> None:
    one = normal(0, 1500, 64).to(dtype)  # more than one chunk
    assert collapse.pair_agreement(one, one) == 1
    assert collapse.pair_agreement(one, 2 * one) == 1
    assert collapse.pair_agreement(one, one.flip(0)) == 0
    swapped = one.clone()
    swapped[[0, 1]] = swapped[[1, 0]]
    assert collapse.pair_agreement(one, swapped) == pytest.approx(1498 / 1500)


@given(st.integers(0, 2**32), st.integers(2, 40), st.integers(1, 300))
def test_constant_features_agree_in_nothing(seed: int, rows: int, width: int) -> None:
    features = normal(seed, 1, width).expand(rows, width)
    assert collapse.pair_agreement(features, features) == 0
    rounded = features + features * normal(seed + 1, rows, width) * 1e-7
    assert collapse.pair_agreement(rounded, rounded) == 0
    assert collapse.pair_agreement(features * torch.nan, features) == 0


def test_class_agreement() -> None:
    one, two = torch.eye(4), torch.eye(4)[[0, 1, 3, 2]]
    assert collapse.class_agreement(one, one) == 1
    assert collapse.class_agreement(one, two) == 0.5
    assert collapse.class_agreement(one * torch.nan, one * torch.nan) == 0


@given(st.integers(0, 2**32), st.integers(2, 9), st.integers(2, 5), st.integers(1, 6))
def test_lidar_is_the_formula(seed: int, images: int, views: int, width: int) -> None:
    rows = normal(seed, images * views, width, torch.float64).unflatten(0, (images, views)).numpy()
    rows = rows + normal(seed + 1, images, width, torch.float64).numpy()[:, None]
    means = rows.mean(1)
    between = np.cov(means.T, bias=True).reshape(width, width)
    within = sum(np.outer(e - m, e - m) for own, m in zip(rows, means, strict=True) for e in own) / (images * views)
    values, vectors = np.linalg.eigh(within + 1e-4 * np.eye(width))
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    strengths = np.abs(np.linalg.eigvalsh(root @ between @ root))
    share = strengths / strengths.sum() + 1e-7
    found = collapse.lidar(torch.from_numpy(rows))
    assert found == pytest.approx(math.exp(-(share * np.log(share)).sum()), rel=1e-4)


def test_lidar_counts_what_tells_images_apart() -> None:
    kinds = torch.eye(6)[:, None].expand(6, 40, 6)
    noise = 1e-2 * normal(0, 240, 6).unflatten(0, (6, 40))
    assert collapse.lidar(kinds + noise) == pytest.approx(5, abs=0.05), "means of six lie in five dimensions"
    one = torch.arange(6.0)[:, None, None].expand(6, 40, 6)
    assert collapse.lidar(one + noise) == pytest.approx(1, abs=0.05)
    assert math.isnan(collapse.lidar(kinds * torch.nan))
    for wrong in (torch.zeros(3, 4), torch.zeros(1, 5, 2), torch.zeros(5, 1, 2)):
        with pytest.raises(UserError, match="two at least of both"):
            collapse.lidar(wrong)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.5])
def test_alpha_of_a_planted_spectrum(alpha: float) -> None:
    left, _ = torch.linalg.qr(normal(0, 300, 120, torch.float64) - normal(0, 300, 120, torch.float64).mean(0))
    right, _ = torch.linalg.qr(normal(1, 120, 120, torch.float64))
    strengths = torch.arange(1, 121).double() ** (-alpha / 2)
    rows = (left * strengths) @ right.T
    assert collapse.alpha_req(rows + 3) == pytest.approx(alpha, abs=1e-6)
    assert collapse.alpha_req(5 * rows, first=2, last=50) == pytest.approx(alpha, abs=1e-6)


def test_alpha_without_a_spectrum() -> None:
    assert math.isnan(collapse.alpha_req(torch.ones(50, 20)))
    assert math.isnan(collapse.alpha_req(normal(0, 50, 20) * torch.inf))
    assert math.isnan(collapse.alpha_req(normal(0, 50, 3)))


@given(st.integers(0, 2**32), st.integers(2, 30), st.integers(1, 9), st.sampled_from([1.0, 2.0]))
def test_uniformity_and_alignment_are_the_formulas(seed: int, rows: int, width: int, power: float) -> None:
    one, two = normal(seed, rows, width, torch.float64), normal(seed + 1, rows, width, torch.float64)
    unit = [(part / part.norm(dim=1, keepdim=True)).numpy() for part in (one, two)]
    pairs = [np.sum((unit[0][i] - unit[0][j]) ** 2) for i in range(rows) for j in range(i)]
    assert collapse.uniformity(one) == pytest.approx(math.log(np.mean(np.exp(-2 * np.array(pairs)))), abs=1e-9)
    expected = np.mean(np.linalg.norm(unit[0] - unit[1], axis=1) ** power)
    assert collapse.alignment(one, two, power=power) == pytest.approx(expected)


def test_uniformity_of_one_row() -> None:
    with pytest.raises(UserError, match="two or more"):
        collapse.uniformity(torch.ones(1, 3))


def test_python_numbers_without_gradients() -> None:
    features = normal(0, 8, 4).requires_grad_()
    for answer in (
        collapse.rankme(features), collapse.spread(features), *collapse.column_and_row_std(features),
        collapse.class_entropy(features.softmax(dim=1)), collapse.pair_agreement(features, features),
        collapse.class_agreement(features, features),
    ):  # fmt: skip
        assert type(answer) is float
    assert type(collapse.classes_used(features)) is int


def test_mistakes() -> None:
    for wrong in (torch.zeros(3), torch.zeros(0, 3), torch.zeros(3, 0), torch.zeros(2, 2, 2)):
        with pytest.raises(UserError, match="give"):
            collapse.rankme(wrong)
    with pytest.raises(UserError, match="two views"):
        collapse.pair_agreement(torch.zeros(3, 2), torch.zeros(2, 2))
    with pytest.raises(UserError, match="two views"):
        collapse.class_agreement(torch.zeros(3, 2), torch.zeros(3, 3))
