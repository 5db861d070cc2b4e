import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gemel.errors import UserError
from gemel.metrics import outliers
from gemel.metrics.outliers import far_out, neighbour_distance


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(1, 6), st.sampled_from([0.0, 1e4]))
def test_distance_is_that_of_all_pairs_sorted(seed: int, rows: int, width: int, origin: float) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, width)) + origin
    values[random.integers(rows)] = values[random.integers(rows)]  # the same row twice, or once
    k = int(random.integers(1, rows))
    expected = np.sort(np.linalg.norm(values[:, None] - values, axis=2), axis=1)[:, k]
    found = neighbour_distance(torch.from_numpy(values), k).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 + 1e-9 * origin)


def test_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    whole = neighbour_distance(rows, 3)
    monkeypatch.setattr(outliers, "CHUNK_BYTES", 4 * 100 * 7)
    torch.testing.assert_close(neighbour_distance(rows, 3), whole)
    torch.testing.assert_close(neighbour_distance(rows.half(), 3), whole, rtol=1e-2, atol=1e-2)


def test_far_out() -> None:
    near = torch.linspace(1.0, 1.2, 50, dtype=torch.float64)
    distances = torch.cat([near, torch.tensor([1.35, 2.0], dtype=torch.float64)])
    assert far_out(distances).nonzero().flatten().tolist() == [51]
    assert far_out(distances, spreads=3.0, least=1.2).nonzero().flatten().tolist() == [50, 51]
    assert not far_out(torch.ones(30)).any()


@pytest.mark.parametrize(
    ("rows", "k", "words"),
    [
        (torch.zeros(4), 1, "give (rows, width)"),
        (torch.zeros(4, 0), 1, "at least one of each"),
        (torch.zeros(4, 2), 0, "k must be 1 to 3"),
        (torch.zeros(4, 2), 4, "k must be 1 to 3"),
        (torch.tensor([[1.0], [float("nan")], [0.0]]), 1, "NaN or infinite"),
    ],
)
def test_mistakes(rows: torch.Tensor, k: int, words: str) -> None:
    with pytest.raises(UserError, match=words.replace("(", r"\(").replace(")", r"\)")):
        neighbour_distance(rows, k)
