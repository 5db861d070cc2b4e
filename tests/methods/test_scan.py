"""SCAN against its released code: both losses, the choice of the head, neighbours, the average; and its stages."""

from math import log
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from toy import PRECISIONS, Given, Golden, given, near

from gemel.backbones.convnet import convnet
from gemel.errors import UserError
from gemel.methods.base import Embedded
from gemel.methods.parts.scan_losses import compare_heads
from gemel.methods.scan import Scan, mined_neighbours, scan_loss, scan_self_labeling_loss
from hooks import batch_of, begun


@pytest.mark.parametrize("weight", [5, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_clustering_loss(relatives_b: Golden, dtype: torch.dtype, tolerance: float, weight: int) -> None:
    anchors, neighbours = given(relatives_b, "scan", "anchors neighbours", dtype)
    terms = scan_loss(anchors, neighbours, entropy_weight=float(weight))
    terms["loss"].backward()
    for name in ("consistency", "entropy"):
        near(terms[name], relatives_b[f"scan.{name}"], tolerance, name)
    near(terms["loss"], relatives_b[f"scan.lambda{weight}.loss"], tolerance)
    near(anchors.grad, relatives_b[f"scan.lambda{weight}.grad_anchors"], 10 * tolerance)
    near(neighbours.grad, relatives_b[f"scan.lambda{weight}.grad_neighbours"], 10 * tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_what_is_cut(relatives_b: Golden, dtype: torch.dtype, tolerance: float) -> None:
    anchors, neighbours = given(relatives_b, "scan.clamp", "anchors neighbours", dtype)
    terms = scan_loss(anchors, neighbours)
    terms["loss"].backward()
    for name in ("loss", "consistency", "entropy"):
        near(terms[name], relatives_b[f"scan.clamp.{name}"], tolerance, name)
    near(anchors.grad, relatives_b["scan.clamp.grad_anchors"], 10 * tolerance)
    near(neighbours.grad, relatives_b["scan.clamp.grad_neighbours"], 10 * tolerance)


def test_several_heads(relatives_b: Golden) -> None:
    """As the method adds them."""
    anchors, neighbours = given(relatives_b, "scan.heads", "anchors neighbours", torch.float64)
    made = Scan(Given(30), classes=10, heads=3).double()
    for number, head in enumerate(made.heads):
        head.weight.data.zero_()
        head.weight.data[:, 10 * number : 10 * number + 10] = torch.eye(10)
        head.bias.data.zero_()
    rows = [logits.transpose(0, 1).flatten(1) for logits in (anchors, neighbours)]
    made(batch_of(made)._replace(views=rows[:1], partners=rows[1:]), 0.0)["loss"].backward()
    near(anchors.grad, relatives_b["scan.heads.grad_anchors"], 1e-8)
    near(neighbours.grad, relatives_b["scan.heads.grad_neighbours"], 1e-8)


def test_choice_of_the_head(relatives_b: Golden) -> None:
    found = compare_heads(relatives_b["scan.select.probabilities"], relatives_b["scan.select.neighbours"])
    for name in ("entropy", "consistency", "total"):
        near(getattr(found, name), relatives_b[f"scan.select.{name}"], 1e-9, name)
    assert int(found.total.argmin()) == int(relatives_b["scan.select.head"])


def test_neighbours(relatives_b: Golden) -> None:
    found = mined_neighbours(relatives_b["scan.mine.features"], 5)
    assert torch.equal(found, relatives_b["scan.mine.neighbours"])
    labels = relatives_b["scan.mine.labels"]
    near((labels[found[:, 1:]] == labels[:, None]).double().mean(), relatives_b["scan.mine.accuracy"], 1e-9)


@pytest.mark.parametrize(("form", "balanced"), [("balanced", True), ("plain", False)])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_self_labeling_loss(
    relatives_b: Golden, dtype: torch.dtype, tolerance: float, form: str, balanced: bool
) -> None:
    weak, strong = given(relatives_b, "scan.selflabel", "weak strong", dtype)
    terms = scan_self_labeling_loss(weak, strong, balanced=balanced)
    terms["loss"].backward()
    near(terms["loss"], relatives_b[f"scan.selflabel.{form}.loss"], tolerance)
    near(strong.grad, relatives_b[f"scan.selflabel.{form}.grad_strong"], 10 * tolerance)
    assert weak.grad is None
    kept = relatives_b["scan.selflabel.kept"]
    near(terms["kept"], kept.double().mean(), 1e-6)
    certainty, classes = weak.detach().softmax(1).max(1)
    assert torch.equal(certainty > 0.99, kept)
    assert torch.equal(classes[kept], relatives_b["scan.selflabel.target"][kept])
    assert torch.equal(strong.grad.abs().sum(1) > 0, kept)


def test_nobody_is_certain() -> None:
    weak, strong = torch.zeros(6, 4), torch.randn(6, 4).requires_grad_()
    terms = scan_self_labeling_loss(weak, strong)
    terms["loss"].backward()
    assert (float(terms["loss"].detach()), float(terms["kept"])) == (0.0, 0.0)
    assert strong.grad is not None
    assert not strong.grad.any()


class Average(nn.Module):
    """The network of the golden average, whose images are inputs already."""

    def __init__(self, golden: Golden) -> None:
        super().__init__()
        self.width = 3
        self.network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).double()
        start = {key.removeprefix("scan.ema.start."): one for key, one in golden.items() if ".ema.start." in key}
        self.network.load_state_dict(start)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.network(inputs)


def test_the_average_is_copied_back(relatives_b: Golden) -> None:
    backbone = Average(relatives_b)
    made = Scan(backbone, classes=2, neighbours=1, average=0.9).double()
    made.stage = "self_labeling"
    made.partners = torch.zeros(4, 2, dtype=torch.int64)
    made.before_stage("self_labeling", lambda: Embedded(torch.randn(4, 3), torch.ones(4, dtype=torch.bool)))
    optimizer = torch.optim.SGD(backbone.parameters(), 0.1)
    for inputs, slopes in zip(relatives_b["scan.ema.inputs"], relatives_b["scan.ema.gradients"], strict=True):
        optimizer.zero_grad()
        (backbone(inputs) * slopes).sum().backward()
        optimizer.step()
        made.after_step(0.0)
    for name, value in backbone.network.state_dict().items():
        near(value, relatives_b[f"scan.ema.after.{name}"], 1e-9, name)


def test_smallest_cases() -> None:
    flat, certain = torch.zeros(20, 10, dtype=torch.float64), 200 * torch.eye(10, dtype=torch.float64).repeat(2, 1)
    assert float(scan_loss(flat, flat)["loss"]) == pytest.approx(-4 * log(10))
    assert float(scan_loss(certain, certain)["loss"]) == pytest.approx(-5 * log(10))


def method(**options: Any) -> Scan:
    torch.manual_seed(0)
    backbone = convnet(widths=(8, 8), strides=(2, 2))
    return Scan(backbone, **{"classes": 4, "heads": 2, "neighbours": 5, **options})


def test_stages() -> None:
    """Neighbours are found once; self-labeling begins with the head that is best by the loss, and trains it alone."""
    made = begun(method(), 20)
    assert made.partners is not None
    assert made.partners.shape == (20, 6)
    assert torch.equal(made.partners[:, 0], torch.arange(20))
    near, features = made.partners.clone(), torch.randn(20, made.backbone.width)
    made.stage = "self_labeling"
    made.before_stage("self_labeling", lambda: Embedded(features, torch.ones(20, dtype=torch.bool)))
    assert made.partners is None, "no partners are drawn any more"
    p = torch.stack([head(features).softmax(1) for head in made.heads])
    assert_close(made.head_losses, compare_heads(p, near).total.detach().float())
    certain = method(threshold=0.0)
    certain.stage, certain.head_losses[0] = "self_labeling", 1.0
    certain(batch_of(certain), 0.0)["loss"].backward()
    assert not certain.heads[0].weight.grad.any()
    assert certain.heads[1].weight.grad.any()


def test_images_that_cannot_be_read_have_themselves() -> None:
    made, readable = method(), torch.arange(20) < 15
    made.attach(20)
    made.before_stage("clustering", lambda: Embedded(torch.randn(20, made.backbone.width), readable))
    assert made.partners is not None
    assert bool((made.partners[:15] < 15).all())
    assert torch.equal(made.partners[15:], torch.arange(15, 20)[:, None].expand(5, 6))
    with pytest.raises(UserError, match=r"5 images for --method\.neighbours 5"):
        made.before_stage("clustering", lambda: Embedded(torch.randn(20, 4), torch.arange(20) < 5))


def test_a_frozen_backbone() -> None:
    made = begun(method(frozen=True), 20)
    groups = made.parameter_groups()
    made.train()
    assert {id(one) for group in groups for one in group.parameters} == {id(one) for one in made.heads.parameters()}
    before = made.backbone.network[1].running_mean.clone()
    made(batch_of(made), 0.0)["loss"].backward()
    assert torch.equal(before, made.backbone.network[1].running_mean)
    assert all(one.grad is None for one in made.backbone.parameters())
    made.stage = "self_labeling"
    assert len([one for group in made.parameter_groups() for one in group.parameters]) == len(list(made.parameters()))
    assert made.backbone.training
