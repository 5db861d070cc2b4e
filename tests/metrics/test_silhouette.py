import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import silhouette_samples

from gemel.errors import UserError
from gemel.metrics import silhouette as room
from gemel.metrics.silhouette import silhouette, silhouettes


def test_numbers_of_the_specification() -> None:
    points = torch.tensor([[0.0], [1.0], [10.0], [11.0], [30.0]])
    expected = [0.904762, 0.894737, 0.894737, 0.904762, 0.0]
    assert silhouettes(points, [0, 0, 1, 1, 2]).tolist() == pytest.approx(expected, abs=1e-6)
    assert silhouette(points, [0, 0, 1, 1, 2]) == pytest.approx(0.719800, abs=1e-6)


@given(st.integers(0, 2**32), st.integers(4, 60), st.integers(2, 6), st.sampled_from([0.0, 1e4]))
def test_as_scikit_learn(seed: int, rows: int, classes: int, offset: float) -> None:
    random = np.random.default_rng(seed)
    features, found = random.normal(size=(rows, 3)) + offset, random.integers(0, classes, rows) * 7
    if not 2 <= len(set(found)) < rows:  # scikit-learn refuses where each stands for itself
        return
    expected = silhouette_samples(features - offset, found)
    assert silhouettes(torch.from_numpy(features), found).numpy() == pytest.approx(expected, abs=1e-6)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    whole = silhouettes(features, np.arange(50) % 7)
    monkeypatch.setattr(room, "CHUNK_BYTES", 8 * 50 * 3)
    torch.testing.assert_close(silhouettes(features, np.arange(50) % 7), whole)


def test_a_sample_stands_for_all() -> None:
    random = torch.Generator().manual_seed(0)
    classes = torch.arange(4000) % 3
    features = torch.eye(3)[classes] * 4 + torch.randn(4000, 3, generator=random)
    whole, part = silhouette(features, classes.numpy()), silhouette(features, classes.numpy(), sample=1000)
    assert part == pytest.approx(whole, abs=0.03)
    assert part == silhouette(features, classes.numpy(), sample=1000, seed=0) != whole
    assert silhouette(features, classes.numpy(), sample=5000) == whole


def test_equal_rows_and_mistakes() -> None:
    assert silhouette(torch.full((6, 2), 1e3), [0, 0, 0, 1, 1, 1]) == 0
    apart = torch.tensor([[1e3, 0.0]] * 2 + [[1e3, 1.0]] * 2)
    assert silhouette(apart, [0, 0, 1, 1]) == 1
    with pytest.raises(UserError, match="one class alone"):
        silhouette(torch.eye(3), [1, 1, 1])
    with pytest.raises(UserError, match="give one class a row"):
        silhouette(torch.eye(3), [1, 1])
