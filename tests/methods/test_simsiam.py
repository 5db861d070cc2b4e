"""SimSiam against the authors' code: loss, and whole steps with two rates."""

import pytest
import torch
from toy import PRECISIONS, Golden, backbone, batches, check, check_directions, load, near, train

from gemel.methods.simsiam import SimSiam, simsiam_loss
from gemel.settings.recipes import SgdOptimizer

NAMES = {"backbone.network.": "encoder.", "projector.": "encoder.fc."}


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_loss(relatives: Golden, dtype: torch.dtype, tolerance: float) -> None:
    terms = {"first": "cosine1", "second": "cosine2", "loss": "loss"}
    check_directions(simsiam_loss, relatives, "simsiam", "p1 p2 z1 z2", terms, dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_whole_steps(relatives: Golden, dtype: torch.dtype, tolerance: float) -> None:
    """A constant rate of the predictor; all decay but the frozen bias, which keeps its start."""
    method = SimSiam(backbone(), projector=(20, 20, 16), predictor=8).to(dtype)
    load(method, relatives, "simsiam.net.init", NAMES)
    encoder, predictor = method.parameter_groups()
    assert (encoder.schedule, predictor.schedule, encoder.decay, predictor.decay) == ("recipe", "constant", True, True)
    assert len(predictor.parameters) == len(list(method.predictor.parameters()))
    description = SgdOptimizer(weight_decay=float(relatives["simsiam.net.decay"]))
    data = list(batches(relatives["simsiam.net.x"].to(dtype)))
    losses = train(method, description, data, relatives["simsiam.net.lr"].tolist())
    near(torch.stack(losses), relatives["simsiam.net.loss"], tolerance)
    check(method, relatives, "simsiam.net.student", NAMES, tolerance)


def test_values() -> None:
    rows = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float(simsiam_loss(rows, rows, 2 * rows, 2 * rows)["loss"]) == pytest.approx(-1)


def test_the_predictor_s_rate_may_follow_the_others() -> None:
    groups = SimSiam(backbone(), projector=(8, 8), predictor=4, constant_rate=False).parameter_groups()
    assert {group.schedule for group in groups} == {"recipe"}
