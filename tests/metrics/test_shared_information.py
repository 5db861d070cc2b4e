import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gemel.errors import UserError
from gemel.metrics import shared_information as information


def normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@given(st.integers(0, 999), st.integers(2, 30), st.integers(1, 30), st.sampled_from([1e-4, 1.0]))
def test_log_determinant(seed: int, rows: int, width: int, ridge: float) -> None:
    z = normal(seed, rows, width)
    covariance = np.cov(z.numpy().T, bias=True).reshape(width, width)
    expected = np.linalg.slogdet(covariance + ridge * np.eye(width))[1]
    assert information.log_determinant(z, ridge) == pytest.approx(expected, abs=1e-6)


def test_conditional_log_determinant() -> None:
    views = normal(0, 3, 20, 4)
    within = np.mean([np.cov(views[:, image].numpy().T, bias=True) for image in range(20)], axis=0)
    expected = np.linalg.slogdet(within + 1e-4 * np.eye(4))[1]
    assert information.conditional_log_determinant(views) == pytest.approx(expected)
    same = views[:1].expand(2, -1, -1)
    assert information.conditional_log_determinant(same, 0.1) == pytest.approx(4 * math.log(0.1))
    # the embedding tells more of the image, the closer an image's views are
    signal, noise = normal(1, 1, 200, 4), normal(2, 2, 200, 4)
    shared = [
        information.log_determinant((signal + scale * noise).flatten(0, 1))
        - information.conditional_log_determinant(signal + scale * noise)
        for scale in (0.1, 1.0, 10.0)
    ]
    assert shared == sorted(shared, reverse=True)


@given(st.integers(0, 999), st.integers(2, 20), st.integers(1, 20))
def test_spectrum(seed: int, rows: int, width: int) -> None:
    one, two = normal(seed, rows, width), normal(seed + 1, rows, width)
    z1, z2 = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (one, two))
    matrix = (z1.T @ z2 / rows).numpy()
    found = information.correlation_spectrum(one, two)
    np.testing.assert_allclose(found, np.linalg.svd(matrix, compute_uv=False)[: min(rows, width)], atol=1e-8)
    assert float(found.square().sum()) == pytest.approx(np.square(matrix).sum())


def test_imax() -> None:
    generator = np.random.default_rng(0)
    signal = generator.normal(size=(20000, 3))
    one, two = (torch.from_numpy(signal + generator.normal(size=signal.shape) * 0.3**0.5) for _ in range(2))
    found = information.imax(one, two, ridge=0.0)
    assert found == pytest.approx(3 * math.log(0.6 / 4.6), abs=0.05)
    mapping = normal(3, 3, 3)
    assert information.imax(one @ mapping + 5, two @ mapping - 2, ridge=0.0) == pytest.approx(found)
    assert math.isfinite(information.imax(one, one))


def test_info_nce() -> None:
    one, two = normal(0, 7, 4), normal(1, 7, 4)
    expected = []
    for a in range(7):
        cosines = [float(torch.cosine_similarity(one[a], other, dim=0)) / 0.2 for other in two]
        others = math.log(sum(math.exp(value) for b, value in enumerate(cosines) if b != a))
        expected.append(others - cosines[a])
    assert information.info_nce(one, two, 0.2) == pytest.approx(np.mean(expected))


def test_redundancy_share_of_nothing() -> None:
    assert information.redundancy_share(0.0, 0.0, 0.005) == 0


def test_broken_embeddings_and_shapes() -> None:
    assert math.isnan(information.log_determinant(torch.full((3, 2), torch.inf)))
    for mistake in (
        lambda: information.log_determinant(torch.ones(3)),
        lambda: information.log_determinant(torch.ones(3, 2), -1.0),
        lambda: information.conditional_log_determinant(torch.ones(3, 2)),
        lambda: information.imax(torch.ones(3, 2), torch.ones(2, 3)),
        lambda: information.info_nce(torch.ones(1, 2), torch.ones(1, 2)),
    ):
        with pytest.raises(UserError, match="give"):
            mistake()


@given(st.integers(0, 999), st.integers(2, 20), st.integers(1, 20))
def test_twin_terms(seed: int, rows: int, width: int) -> None:
    one, two = normal(seed, rows, width), normal(seed + 1, rows, width)
    z1, z2 = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (one, two))
    matrix = (z1.T @ z2 / rows).numpy()
    diagonal = np.diagonal(matrix)
    invariance, redundancy = information.twin_terms(one, two)
    assert invariance == pytest.approx(np.square(1 - diagonal).sum())
    assert redundancy == pytest.approx(np.square(matrix).sum() - np.square(diagonal).sum(), abs=1e-9)
