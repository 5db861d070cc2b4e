"""Networks that agree upon labels, and the student that learns them."""

import copy
import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from gemel.backbones.convnet import convnet
from gemel.data.plan import Batch
from gemel.errors import UserError
from gemel.methods.base import Embedded
from gemel.methods.parts.committee import Committee
from gemel.methods.twist import Twist

IMAGES = 12


def method(**options: Any) -> Twist:
    torch.manual_seed(0)
    backbone = convnet(widths=(8, 8), strides=(2, 2), pool=2)
    made = Twist(backbone, **{"classes": 4, "hidden": 8, "heads": 2, "labels": "agreed", "networks": 3, **options})
    made.attach(IMAGES)
    return made


def batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(IMAGES, 3, 16, 16, generator=generator) for _ in range(2)]
    return Batch(views, torch.arange(IMAGES), torch.full((IMAGES,), -1))


class Seen:
    """An embed that sees a batch's views; the last image can't be read."""

    def __init__(self, made: Twist, data: Batch) -> None:
        self.made, self.data = made, data

    def __call__(
        self, head: nn.Module | None = None, *, views: bool = False, training: bool = False, network: Any = None
    ) -> Embedded:
        look = self.made.encoder() if network is None else network
        for module in (look, head):
            if module is not None:
                module.train(training)
        with torch.no_grad():
            found = [look(view) for view in self.data.views]
            found = [one if head is None else head(one) for one in found]
        readable = torch.ones(IMAGES, dtype=torch.bool)
        readable[-1] = False
        return Embedded(torch.stack(found, 1) if views else found[0], readable)


@pytest.mark.parametrize("layers", [1, 2])
def test_all_networks_learn_in_the_first_stage_and_the_student_in_the_second(layers: int) -> None:
    made, data = method(layers=layers), batch()
    committee = made.committee
    assert committee is not None
    first = copy.deepcopy(committee.student[0].state_dict())
    made.before_stage("pretrain", Seen(made, data))
    learning = {id(one) for group in made.parameter_groups() for one in group.parameters}
    everything = [*made.backbone.parameters(), *made.heads.parameters(), *committee.others.parameters()]
    assert learning == {id(one) for one in everything}
    made(data, 0.0)["loss"].backward()
    assert all(one.grad is not None for one in everything)
    assert made.head_losses.shape == (2,), "classes are by the first network's heads"
    with torch.no_grad():
        for one in everything:
            one.add_(0.1 * torch.randn_like(one))
    others = copy.deepcopy(committee.others.state_dict())
    made.stage = "self_labeling"
    learning = {id(one) for group in made.parameter_groups() for one in group.parameters}
    assert learning == {id(one) for one in (*made.backbone.parameters(), *made.heads.parameters())}
    made.before_stage("self_labeling", Seen(made, data))
    weights = dict(made.backbone.named_parameters())
    assert all(torch.equal(one, first[name]) for name, one in weights.items()), "the student takes its place"
    made.before_epoch(Seen(made, data), 0.0)
    assert {id(one) for one in made.renewed()} == learning, "without the first stage's momenta"
    for one in everything:
        one.grad = None
    made.train()
    terms = made(data, 0.5)
    terms["loss"].backward()
    assert all(one.grad is None for one in committee.others.parameters())
    assert all(one.grad is not None for one in made.backbone.parameters())
    assert {"sharpness", "diversity", "consistency"} <= set(terms)
    made.before_epoch(Seen(made, data), 0.5)
    assert made.renewed() == []
    kept = committee.others.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in others.items() if "num_batches" not in name)


def test_the_loss_is_the_cross_entropy_to_the_labels() -> None:
    made, data = method(layers=1), batch()
    committee = made.committee
    assert committee is not None
    made.stage = "self_labeling"
    committee.labels = torch.rand(IMAGES, 4).softmax(1)
    again = copy.deepcopy(made)
    loss = made(data, 0.0)["loss"]
    features = again.backbone(torch.cat(data.views))
    logits = again.heads[0](features, 2)[1].view(2, IMAGES, 2, 4)
    expected = -(committee.labels[None, :, None] * logits.log_softmax(3)).sum(3).mean()
    assert_close(loss, expected)


def test_classes_are_aligned_before_they_are_averaged() -> None:
    """Heads that found the same classes under other numbers agree."""
    torch.manual_seed(0)
    truth = torch.eye(4).repeat(3, 1) * 0.9 + 0.025
    orders = [torch.randperm(4) for _ in range(6)]

    def embed(head: nn.Module | None = None, *, network: Any = None, **_: Any) -> Embedded:
        first = 0 if network is made.backbone else 2 if network is committee.others[0][0] else 4
        found = torch.cat([truth[:, orders[first]], truth[:, orders[first + 1]]], 1)
        found = found if head is None else found[:, None].repeat(1, 2, 1)
        return Embedded(found, torch.ones(IMAGES, dtype=torch.bool))

    made = method()
    committee = made.committee
    assert committee is not None
    committee.vote(embed, made.backbone, made.heads)
    assert committee.agreed.argmax(1).equal(truth[:, orders[0]].argmax(1))
    assert (committee.agreed.amax(1) > 0.9).all(), "what is alike and of one vote is surer than the votes"
    assert_close(committee.agreed.sum(1), torch.ones(IMAGES))


def test_an_unreadable_image_has_no_label() -> None:
    made, data = method(), batch()
    committee = made.committee
    assert committee is not None
    committee.vote(Seen(made, data), made.backbone, made.heads)
    committee.share_out()
    assert float(committee.labels[-1].abs().sum()) == 0
    assert_close(committee.labels[:-1].sum(1), torch.ones(IMAGES - 1))


@given(images=st.integers(12, 60), classes=st.integers(2, 6), seed=st.integers(0, 1000), sharpness=st.floats(0.1, 4.0))
@settings(deadline=None)
def test_classes_get_their_shares(images: int, classes: int, seed: int, sharpness: float) -> None:
    """Whatever the networks think, every class is given its share of the images; at first as many as the others."""
    generator = torch.Generator().manual_seed(seed)
    committee = Committee(nn.Linear(2, 2), [nn.ModuleList()], classes)
    committee.attach(images)
    committee.agreed = (sharpness * torch.randn(images, classes, generator=generator)).softmax(1)
    assert_close(committee.shares, torch.full((classes,), 1 / classes))
    if seed % 2:
        committee.shares = (0.5 + torch.rand(classes, generator=generator)) / classes
        committee.shares /= committee.shares.sum()
    committee.share_out()
    assert_close(committee.labels.sum(1), torch.ones(images), rtol=1e-4, atol=1e-4)
    shares = committee.labels.sum(0) / (images * committee.shares)
    assert float((shares - 1).abs().max()) < 0.05, shares
    assert bool((committee.labels >= 0).all())


def test_a_mode_that_many_doubt_goes_where_there_is_room() -> None:
    """Ten images that are a little more alike to a class that has all of its own go to the other class."""
    probabilities = torch.tensor([[0.98, 0.02]]).repeat(30, 1)
    doubtful, others = torch.tensor([[0.55, 0.45]]).repeat(10, 1), torch.tensor([[0.02, 0.98]]).repeat(20, 1)
    committee = Committee(nn.Linear(2, 2), [nn.ModuleList()], 2)
    committee.attach(60)
    committee.agreed = torch.cat([probabilities, doubtful, others])
    committee.share_out()
    assert committee.labels.argmax(1).tolist() == [0] * 30 + [1] * 30


@pytest.mark.parametrize("sizes", [(40, 12, 6, 2), (15, 15, 15, 15)])
def test_what_lies_together_stays_together_where_kinds_are_of_unequal_sizes(sizes: tuple[int, ...]) -> None:
    """Heads that divide the most frequent kind, as the diversity asks them to, are overruled; others are not."""
    images, generator = sum(sizes), torch.Generator().manual_seed(0)
    kinds = torch.arange(4).repeat_interleave(torch.tensor(sizes))
    features = 4 * torch.eye(4, 32)[kinds] + 0.3 * torch.randn(images, 32, generator=generator)
    equal = torch.arange(images) * 4 // images  # classes of one size, which cut through the kinds

    def embed(head: nn.Module | None = None, **_: Any) -> Embedded:
        votes = 0.9 * torch.eye(4)[equal] + 0.025
        found = features if head is None else votes.repeat(1, 2)[:, None].repeat(1, 2, 1)
        return Embedded(found, torch.ones(images, dtype=torch.bool))

    made = method()
    made.attach(images)
    committee = made.committee
    assert committee is not None
    committee.vote(embed, made.backbone, made.heads)
    committee.share_out()
    found = committee.labels.argmax(1)
    assert len({*zip(kinds.tolist(), found.tolist(), strict=True)}) == 4, "each kind is one class"
    assert_close(committee.shares.sort(descending=True)[0], torch.tensor(sizes) / images)


@pytest.mark.parametrize("layers", [1, 2])
def test_all_networks_begin_elsewhere(layers: int) -> None:
    made = method(layers=layers)
    committee = made.committee
    assert committee is not None
    networks = [*committee.networks(made.backbone, made.heads), tuple(committee.student)]
    weights: list[list[Tensor]] = [[*one.parameters(), *heads.parameters()] for one, heads in networks]
    assert len(weights) == 4
    for one, two in itertools.combinations(weights, 2):
        assert all(not torch.equal(a, b) for a, b in zip(one, two, strict=True) if a.ndim > 1)


def test_the_student_begins_from_weights_that_were_given() -> None:
    made = method()
    assert made.committee is not None
    drawn = copy.deepcopy(made.committee.student.state_dict())
    made.before_stage("pretrain")
    assert all(torch.equal(value, drawn[name]) for name, value in made.committee.student.state_dict().items())
    with torch.no_grad():
        for one in made.backbone.parameters():
            one.fill_(0.5)
    made.before_stage("pretrain")
    assert all(bool((one == 0.5).all()) for one in made.committee.student[0].parameters())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"teacher": True}, "labels agreed upon go with no teacher and no finer classes, not with a teacher"),
        ({"finer": 2}, "not with finer classes; --method.labels own does"),
        (
            {"labels": "own"},
            "3 networks learn side by side .*: give --method.labels agreed, or --method.networks 1",
        ),
    ],
)
def test_what_does_not_fit_together(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        method(**options)
