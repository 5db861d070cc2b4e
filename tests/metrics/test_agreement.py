"""Encoders ranked without labels by what their neighbours have in common."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau

from gemel.errors import UserError
from gemel.metrics import agreement as module
from gemel.metrics.agreement import agreement
from gemel.metrics.neighbours import nearest

KINDS = np.arange(240) % 8


def near(noise: float, seed: int) -> NDArray[np.int64]:
    """Eight neighbours by an encoder that sees the kinds through so much noise."""
    random = np.random.default_rng(seed)
    rows = np.eye(8)[KINDS] @ random.normal(size=(8, 16)) + noise * random.normal(size=(len(KINDS), 16))
    features = torch.from_numpy(rows)
    return nearest(features, features, 8, leave_one_out=True)[1].numpy()


NOISES = (0.3, 0.8, 1.2, 1.6, 2.2, 3.0, 100.0)
NEAR = [near(noise, seed) for seed, noise in enumerate(NOISES)]


def test_the_less_noise_the_better() -> None:
    scores = agreement(NEAR)
    assert kendalltau(scores, [-noise for noise in NOISES])[0] > 0.9
    assert scores[0] > 0.7  # of eight kinds and more, which divide these at will
    assert scores[-1] < 0.3
    assert agreement(NEAR).tolist() == scores.tolist()


def test_the_order_of_the_encoders_changes_nothing() -> None:
    order = [3, 0, 6, 2, 1, 5, 4]
    np.testing.assert_allclose(agreement([NEAR[one] for one in order]), agreement(NEAR)[order], atol=0.03)


def test_landmarks_stand_for_those_around_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LANDMARKS", 80)
    assert kendalltau(agreement(NEAR), [-noise for noise in NOISES])[0] > 0.9


def test_few_images() -> None:
    ring = (np.arange(4)[:, None] + [1, 2]) % 4
    assert np.isfinite(agreement([ring, ring])).all()


@pytest.mark.parametrize("given", [[], [NEAR[0]], [NEAR[0], NEAR[1][:100]], [NEAR[0], NEAR[0][:, :0]]])
def test_what_cannot_be_ranked(given: list[NDArray[np.int64]]) -> None:
    with pytest.raises(UserError, match="give those of two encoders or more, of the same images"):
        agreement(given)
