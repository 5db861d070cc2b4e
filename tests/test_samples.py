from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gemel.samples import evenly_spread


@given(count=st.integers(0, 2**40), most=st.integers(1, 300))
def test_indices_are_evenly_spread(count: int, most: int) -> None:
    found = evenly_spread(count, most).tolist()
    assert len(found) == min(count, most)
    assert found == sorted(set(found))
    if len(found) > 1:
        assert (found[0], found[-1]) == (0, count - 1)
        gaps = [after - before for before, after in pairwise(found)]
        assert max(gaps) - min(gaps) <= 1


def test_all_of_few() -> None:
    assert evenly_spread(5, 8).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spread(1, 1).tolist() == [0]
