"""Bytes become the floats of the definition, to the same bit by the table as by torch."""

import pytest
import torch

from gemel.data import normalise
from gemel.data.normalise import Normalise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("shape", [(5, 3, 17, 23), (1, 3, 1, 1), (0, 3, 4, 4), (2, 3, 224, 224)])
def test_the_table_gives_the_same_bits(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    views = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    fast = Normalise(MEAN, STD)(views)
    monkeypatch.setattr(normalise, "is_compiled", lambda: False)
    plain = Normalise(MEAN, STD)(views)
    assert torch.equal(fast, plain)
    assert fast.is_contiguous(memory_format=torch.channels_last)
    assert plain.is_contiguous(memory_format=torch.channels_last)
    planes = Normalise(MEAN, STD, planes=True)(views)
    assert torch.equal(planes, fast)
    assert planes.is_contiguous()
    floats = views.float()
    assert torch.equal(Normalise(MEAN, STD, planes=True)(floats), planes)
    assert torch.equal(floats, views.float())  # it writes into its own
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (MEAN, STD))
    assert torch.allclose(fast, (views / 255 - mean) / std, atol=1e-6)


def test_views_that_do_not_lie_in_order() -> None:
    views = torch.randint(0, 256, (6, 3, 9, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    turned, rest = Normalise(MEAN, STD)(views.transpose(2, 3)), Normalise(MEAN, STD)(views[::2])
    assert torch.equal(turned, Normalise(MEAN, STD)(views).transpose(2, 3))
    assert torch.equal(rest, Normalise(MEAN, STD)(views)[::2])
