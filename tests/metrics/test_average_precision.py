import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gemel.errors import UserError
from gemel.metrics.average_precision import area_ap, eleven_point_ap


def test_the_specification() -> None:
    scores, targets = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]), torch.tensor([1, 0, 1, 0, 1])
    assert eleven_point_ap(scores, targets) == pytest.approx(0.763636, abs=1e-6)
    assert area_ap(scores, targets) == pytest.approx(0.755556, abs=1e-6)


def test_thresholds_as_floats_move() -> None:
    scores, targets = -torch.arange(20.0), torch.tensor([1, 0] * 10)
    assert eleven_point_ap(scores, targets) == pytest.approx(0.642421, abs=1e-6)
    assert eleven_point_ap(scores, targets, voc_compat=True) == pytest.approx(0.638721, abs=1e-6)


@given(st.lists(st.tuples(st.floats(-9, 9, width=32), st.integers(-1, 1)), min_size=1, max_size=25))
def test_by_brute_force(drawn: list[tuple[float, int]]) -> None:
    ranked = sorted([one for one in drawn if one[1] >= 0], key=lambda one: -one[0])  # stable: the earlier goes first
    count = sum(target for _, target in ranked)
    if not count:
        return
    points = [(sum(target for _, target in ranked[:n]), n) for n in range(1, len(ranked) + 1)]
    eleven = [max(hits / n for hits, n in points if 10 * hits >= m * count) for m in range(11)]
    area = sum(max(h / n for h, n in points if n >= place) / count for _, place in points if ranked[place - 1][1])
    scores, targets = (torch.tensor(column) for column in zip(*drawn, strict=True))
    assert eleven_point_ap(scores, targets) == pytest.approx(sum(eleven) / 11)
    assert area_ap(scores, targets) == pytest.approx(area)


def test_the_thresholds_are_those_of_linspace() -> None:
    assert [0.1 * m for m in range(11)] == np.linspace(0, 1, 11).tolist()


def test_mistakes() -> None:
    for scores, targets, words in [
        (torch.zeros(3), torch.zeros(2), "give"),
        (torch.zeros(3), torch.zeros(3), "no sample"),
        (torch.tensor([1.0, torch.nan]), torch.ones(2), "not a number"),
    ]:
        with pytest.raises(UserError, match=words):
            area_ap(scores, targets)
