"""TWIST as a method: several views, self-labeling, the teacher, and what it logs of itself."""

import copy
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from gemel.backbones.base import features_of
from gemel.backbones.convnet import convnet
from gemel.backbones.timm import timm_backbone
from gemel.data.plan import Batch
from gemel.errors import UserError
from gemel.methods.barlow_twins import BarlowTwins
from gemel.methods.twist import Twist, multi_crop_loss, self_labeling_loss, teacher_loss


def method(**options: Any) -> Twist:
    torch.manual_seed(0)
    return Twist(convnet(widths=(8, 8), strides=(2, 2), pool=2), **{"classes": 6, "hidden": 16, **options})


def batch(local: int = 0, size: int = 12) -> Batch:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(size, 3, side, side, generator=generator) for side in [16] * 2 + [8] * local]
    return Batch(views, torch.arange(size), torch.full((size,), -1))


def test_each_resolution_is_one_pass_and_the_head_sees_all() -> None:
    twist, data = method(), batch(local=3)
    passes: list[int] = []
    twist.backbone.register_forward_hook(lambda module, given, out: passes.append(len(out)))
    heads: list[int] = []
    twist.heads[0].register_forward_hook(lambda module, given, out: heads.append(len(out[0])))
    terms = twist(data, 0.0)
    assert (passes, heads) == ([24, 36], [60])
    again = method()
    logits = again.heads[0](features_of(again.backbone, data.views), 5)[1]
    assert_close(terms["loss"], multi_crop_loss(logits.chunk(5))["loss"])


def test_two_views_alone() -> None:
    with pytest.raises(
        UserError,
        match=r"BarlowTwins takes two views of an image, not 5; give --views.global_count 2 and --views.local_count 0",
    ):
        BarlowTwins(convnet(widths=(8, 8), strides=(2, 2)), projector=(8, 8))(batch(local=3), 0.0)


@pytest.mark.parametrize(("progress", "quantile"), [(0.0, 0.5), (1.0, 0.6)])
def test_self_labeling(progress: float, quantile: float) -> None:
    twist, data = method(group=6), batch(local=2)
    twist.before_stage("self_labeling")
    terms = twist(data, progress)
    again = method()
    logits = again.heads[0](features_of(again.backbone, data.views), 4)[1].chunk(4)
    expected = self_labeling_loss(logits, quantile=quantile, group=6)
    for name in ("loss", "kept", "threshold"):
        assert_close(terms[name], expected[name])
    assert float(terms["kept"]) == int(6 * quantile) / 6
    assert {"sharpness", "diversity"} <= set(terms)
    twist.before_stage("pretrain")
    assert "kept" not in twist(data, 0.0)


def test_the_best_head_stays_while_it_labels() -> None:
    twist = method(heads=3)
    twist.before_stage("self_labeling")
    before = twist.head_losses.clone()
    twist(batch(), 0.0)
    assert torch.equal(twist.head_losses, before)


def test_teacher() -> None:
    """Its loss is that of its logits; its parameters are the average, its buffers are its own."""
    twist, data = method(teacher=True, momentum=0.5, alpha=0.4), batch(local=2)
    assert twist.teacher is not None
    plain = copy.deepcopy(twist)
    terms = twist(data, 0.0)
    with torch.no_grad():
        features = features_of(plain.backbone, data.views[:2])
        targets = copy.deepcopy(plain.heads[0])(features, 2)[1].chunk(2)
    again = method()
    logits = again.heads[0](features_of(again.backbone, data.views), 4)[1].chunk(4)
    assert_close(terms["loss"], teacher_loss(targets, logits, alpha=0.4, beta=1.0)["loss"])
    assert twist.encoder() is twist.teacher.networks[0]
    terms["loss"].backward()
    assert all(one.grad is None for one in twist.teacher.parameters())
    before = [one.clone() for one in twist.teacher.parameters()]
    with torch.no_grad():
        for one in (*twist.backbone.parameters(), *twist.heads.parameters()):
            one += 1.0
    twist.after_step(0.5)  # half a cosine from 0.5 to 1: 0.75
    for old, new in zip(before, twist.teacher.parameters(), strict=True):
        assert_close(new, old + 0.25)
    student, teacher = (dict(one.named_buffers()) for one in (twist.backbone, twist.teacher.networks[0]))
    assert not torch.equal(student["network.1.running_mean"], teacher["network.1.running_mean"])
    assert float(teacher["network.1.running_mean"].abs().sum()) > 0, "from its own passes"


def test_teacher_begins_as_the_student() -> None:
    """Weights that the backbone was given after it was made reach the teacher, too."""
    twist = method(teacher=True)
    with torch.no_grad():
        for one in twist.backbone.parameters():
            one.fill_(0.5)
    twist.before_stage("pretrain")
    assert all(bool((one == 0.5).all()) for one in twist.encoder().parameters())
    with pytest.raises(UserError, match="self-labeling has no teacher"):
        twist.before_stage("self_labeling")


def test_transformer_with_small_views() -> None:
    """The form of the transformers' recipes: views of two sizes, GELU, drop path for the student only."""
    torch.manual_seed(0)
    backbone = timm_backbone("vit_tiny_patch16_224", image_size=32, drop_path=0.2)
    twist = Twist(backbone, classes=6, hidden=16, head_style="transformer", teacher=True, alpha=0.4)
    assert twist.teacher is not None
    assert 0.015 < float(twist.heads[0].layers[0].weight.detach().std()) < 0.025
    views = [torch.randn(4, 3, side, side) for side in (32, 32, 16)]
    twist(Batch(views, torch.arange(4), torch.full((4,), -1)), 0.0)["loss"].backward()
    chances = {getattr(module, "drop_prob", 0.0) for module in twist.teacher.modules()}
    assert chances == {0.0}
    plain, rest = twist.parameter_groups()
    names = {id(one): name for name, one in twist.named_parameters()}
    assert {"backbone.network.pos_embed", "backbone.network.cls_token"} <= {names[id(p)] for p in rest.parameters}
    assert all(one.ndim > 1 for one in plain.parameters)


@pytest.mark.parametrize("heads", [1, 3])
def test_gradient_sizes_around_the_last_norm(heads: int) -> None:
    """It arrives with the backward, whatever factor half precision has put before the loss."""
    twist, data = method(heads=heads), batch()
    terms = twist(data, 0.0)
    assert float(terms["gradient_before"]) == 0
    (1024 * terms["loss"]).backward()
    again = method(heads=heads)
    features = features_of(again.backbone, data.views)
    before = again.heads[0].layers(features)
    after = again.heads[0].norm(before, 2)
    loss = multi_crop_loss(after.chunk(2))["loss"]  # the first head: all losses are 0 yet
    gradients = torch.autograd.grad(loss, (before, after))
    best = int(twist.head_losses.argmin())
    for place, gradient in zip(("before", "after"), gradients, strict=True):
        if best == 0:
            assert_close(terms[f"gradient_{place}"], gradient.abs().mean(), rtol=1e-4, atol=0)
        assert float(terms[f"gradient_{place}"]) > 0


def test_bunches_are_groups_of_the_batch() -> None:
    """Bunches of the whole batch are no bunches; smaller ones normalise by themselves."""
    data = batch()
    whole, same, small = (float(method(bunch=bunch)(data, 0.0)["loss"].detach()) for bunch in (None, 12, 4))
    assert whole == same != small
    with pytest.raises(UserError, match=r"--method\.bunch 5 with"):
        method(bunch=5)(data, 0.0)
