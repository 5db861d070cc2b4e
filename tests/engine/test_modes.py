"""Evaluation mode is left as it was found, module by module."""

import pytest
from torch import nn

from gemel.engine.modes import evaluation_mode


def test_every_part_gets_its_own_flag_back() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
    network.train()
    network[1].eval()  # a frozen part, as a teacher is
    before = [part.training for part in network.modules()]
    with evaluation_mode(network, nn.Dropout()):
        assert not any(part.training for part in network.modules())
    assert [part.training for part in network.modules()] == before
    assert sorted(set(before)) == [False, True]


def test_flags_come_back_after_an_error() -> None:
    network = nn.Dropout()
    with pytest.raises(KeyError), evaluation_mode(network):
        raise KeyError
    assert network.training
