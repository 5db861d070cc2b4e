"""Self-Classifier against its released code: the loss, the head, the queue of neighbours."""

from math import log
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from toy import PRECISIONS, Golden, check, given, load, near

from gemel.backbones.convnet import convnet
from gemel.methods.parts.neighbour_queue import NeighbourQueue
from gemel.methods.parts.self_classifier_head import ProjectionHead, WeightNormed
from gemel.methods.self_classifier import SelfClassifier, self_classifier_loss
from hooks import batch_of, begun

PREFIX = "selfclassifier"


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_loss_of_two_heads(relatives_b: Golden, dtype: torch.dtype, tolerance: float) -> None:
    heads = given(relatives_b, PREFIX, "logits0 logits1", dtype)
    losses = [self_classifier_loss(views.unbind(), epsilon=1e-12)["loss"] for views in heads]
    loss = torch.stack(losses).mean()
    loss.backward()
    near(loss, relatives_b[f"{PREFIX}.loss"], tolerance)
    for number, views in enumerate(heads):
        near(views.grad, relatives_b[f"{PREFIX}.grad_logits{number}"], 10 * tolerance)


@pytest.mark.parametrize("case", ["pair", "sharp"])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_loss_of_two_views(relatives_b: Golden, dtype: torch.dtype, tolerance: float, case: str) -> None:
    if case == "pair":
        [views] = given(relatives_b, PREFIX, "logits0", dtype)
        views, epsilon = views.detach()[:2].requires_grad_(), 1e-8
    else:
        [views] = given(relatives_b, PREFIX, "sharp.logits", dtype)
        epsilon = 1e-12
    loss = self_classifier_loss(views.unbind(), epsilon=epsilon)["loss"]
    loss.backward()
    near(loss, relatives_b[f"{PREFIX}.{case}.loss"], tolerance)
    near(views.grad, relatives_b[f"{PREFIX}.{case}.grad"], 10 * tolerance)


def test_network(relatives_b: Golden) -> None:
    names = {"0.": "mlp_head.mlp."}
    head, classifiers = ProjectionHead(18, 20, 16).double(), [WeightNormed(16, c).double() for c in (10, 12)]
    network = nn.ModuleList([head, *classifiers])
    names |= {"1.": "cls_0.", "2.": "cls_1."}
    load(network, relatives_b, f"{PREFIX}.net.state", names)
    features = relatives_b[f"{PREFIX}.net.features"].clone().requires_grad_()
    embeddings = head(features.flatten(0, 1))
    near(embeddings.view(4, 24, 16), relatives_b[f"{PREFIX}.net.embeddings"], 1e-9)
    losses: list[torch.Tensor] = []
    for number, classifier in enumerate(classifiers):
        logits = classifier(embeddings)
        near(logits.view(4, 24, -1), relatives_b[f"{PREFIX}.net.logits{number}"], 1e-9)
        losses.append(self_classifier_loss(logits.chunk(4), epsilon=1e-12)["loss"])
    loss = torch.stack(losses).mean()
    loss.backward()
    near(loss, relatives_b[f"{PREFIX}.net.loss"], 1e-9)
    near(features.grad, relatives_b[f"{PREFIX}.net.grad_features"], 1e-8)
    slopes = nn.ModuleList([ProjectionHead(18, 20, 16).double(), *(WeightNormed(16, c).double() for c in (10, 12))])
    for own, one in zip(network.parameters(), slopes.parameters(), strict=True):
        one.data.copy_(own.grad)
    rounding = f"{PREFIX}.net.grad.mlp_head.mlp.0.bias"  # before a batch norm
    assert float(slopes[0][0].bias.detach().abs().max()) < 1e-12
    slopes[0][0].bias.data.copy_(relatives_b[rounding])
    check(slopes, relatives_b, f"{PREFIX}.net.grad", names, 1e-8)


def test_queue(relatives_b: Golden) -> None:
    queue = NeighbourQueue(16, 20).double()
    for step in range(4):
        queue.push(relatives_b[f"{PREFIX}.queue.pushed"][step], relatives_b[f"{PREFIX}.queue.pushed_index"][step])
        assert int(queue.pointer) == int(relatives_b[f"{PREFIX}.queue.pointer"][step])
        assert bool(queue.full) == bool(relatives_b[f"{PREFIX}.queue.full"][step])
    near(queue.rows, relatives_b[f"{PREFIX}.queue.rows"], 1e-9)
    assert torch.equal(queue.index, relatives_b[f"{PREFIX}.queue.index"])
    found = queue.nearest(relatives_b[f"{PREFIX}.queue.query"], relatives_b[f"{PREFIX}.queue.query_index"])
    near(found, relatives_b[f"{PREFIX}.queue.neighbours"], 1e-9)


def test_smallest_cases() -> None:
    flat = torch.zeros(12, 6, dtype=torch.float64)
    assert float(self_classifier_loss([flat, flat])["loss"]) == pytest.approx(1.791759, abs=1e-6)
    certain = 9 * torch.eye(6, dtype=torch.float64).repeat(2, 1)
    assert float(self_classifier_loss([certain, certain])["loss"]) == pytest.approx(0.0, abs=1e-5)
    one_class = 0.3 * torch.eye(6, dtype=torch.float64)[:1].repeat(12, 1)
    assert float(self_classifier_loss([one_class, one_class])["loss"]) == pytest.approx(log(6), abs=1e-6)


def test_pairs() -> None:
    """26 of two global and six local views."""
    views = 0.2 * torch.randn(8, 10, 5, dtype=torch.float64)  # far from what ε bounds
    pairs = [(a, b) for a in range(8) for b in range(8) if a != b and (a < 2 or b < 2)]
    assert len(pairs) == 26

    def directed(a: int, b: int) -> torch.Tensor:
        target = (views[a] / 0.05).softmax(0)
        target = target / target.sum(1, keepdim=True)
        p = (views[b] / 0.1).softmax(1)
        return -(target * (10 / 5 * p / p.sum(0) + 1e-8).log()).sum() / 10

    expected = torch.stack([directed(*pair) for pair in pairs]).mean()
    assert_close(self_classifier_loss(views.unbind())["loss"], expected)
    with pytest.raises(ValueError, match="two or more matrices"):
        self_classifier_loss([views[0]])


def method(**options: Any) -> SelfClassifier:
    torch.manual_seed(0)
    small = {"classes": 4, "heads": 2, "projector": (16, 8), "queue": 24, **options}
    return begun(SelfClassifier(convnet(widths=(8, 8), strides=(2, 2)), **small))  # type: ignore[return-value]


def test_neighbours_take_the_first_view_s_place_once_the_queue_is_full() -> None:
    made, data = method(), batch_of(method())
    gradients: list[bool] = []
    for index in (0, 12, 24):
        view = data.views[0].clone().requires_grad_()
        made(data._replace(views=[view, *data.views[1:]], index=data.index + index), 0.0)["loss"].backward()
        gradients.append(bool(view.grad is not None and view.grad.any()))
        made.after_step(0.0)
    assert made.queue is not None
    assert bool(made.queue.full)
    assert gradients[:2] == [True, True]
    # batch norms join the views: what is left of the first view's gradient comes by them alone
    embedding = made.projector(torch.cat([made.backbone(view) for view in data.views]))[:12]
    found = made.queue.nearest(embedding, data.index)
    assert not found.requires_grad
    assert bool((found[:, None] == made.queue.rows).all(2).any(1).all())


def test_heads_have_twice_the_classes_of_the_one_before() -> None:
    made = method(heads=3)
    assert [len(head.weight_g) for head in made.heads] == [4, 8, 16]
    assert made.classify(torch.randn(3, made.backbone.width)).shape == (3, 4)
    assert [group.decay for group in made.parameter_groups()] == [True]
