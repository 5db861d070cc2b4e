"""TWIST's losses against sums over pairs, rows and classes written out, and the values that its formula implies."""

from collections.abc import Sequence
from itertools import product
from math import log
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck
from torch.testing import assert_close

from gemel.errors import UserError
from gemel.methods.parts import class_distributions
from gemel.methods.parts.class_distributions import view_weights
from gemel.methods.twist import multi_crop_loss, self_labeling_loss, teacher_loss, twist_loss

TERMS = ("loss", "consistency", "sharpness", "diversity")


def logits(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_()


def softmax(z: Tensor, temperature: float, epsilon: float) -> tuple[Tensor, Tensor]:
    log_p = (z / temperature).log_softmax(1)
    return log_p.exp(), log_p if epsilon == 0 else (log_p.exp() + epsilon).log()


def entropies(z: Tensor, temperature: float, epsilon: float) -> tuple[Tensor, Tensor]:
    p, log_p = softmax(z, temperature, epsilon)
    mean = p.mean(0)
    return -(p * log_p).sum(1).mean(), -(mean * (mean + epsilon).log()).sum()


def divergence(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> Tensor:
    return (p[0] * (p[1] - q[1])).sum(1).mean()


def pair(
    one: Tensor, two: Tensor, alpha: float = 1.0, beta: float = 1.0, temperature: float = 1.0, epsilon: float = 1e-5
) -> dict[str, Tensor]:
    p, q = (softmax(z, 1.0, epsilon) for z in (one, two))
    consistency = (divergence(p, q) + divergence(q, p)) / 2
    (eh1, he1), (eh2, he2) = (entropies(z, temperature, epsilon) for z in (one, two))
    sharpness, diversity = (eh1 + eh2) / 2, (he1 + he2) / 2
    loss = consistency + alpha * sharpness - beta * diversity
    return dict(zip(TERMS, (loss, consistency, sharpness, diversity), strict=True))


def pairs(views: Sequence[Tensor], **options: float) -> dict[str, Tensor]:
    found = [pair(views[i], views[j], **options) for i in range(2) for j in range(i + 1, len(views))]
    return {name: torch.stack([one[name] for one in found]).mean() for name in TERMS}


def with_teacher(
    teacher: Sequence[Tensor], views: Sequence[Tensor], alpha: float, beta: float, temperature: float, epsilon: float
) -> dict[str, Tensor]:
    targets, found = ([softmax(z, temperature, epsilon) for z in of] for of in (teacher, views))
    parts = [divergence(targets[i], found[j]) for i, j in product(range(2), range(len(views))) if i != j]
    sharpness, diversity = (
        torch.stack(part).mean() for part in zip(*(entropies(z, temperature, epsilon) for z in views), strict=True)
    )
    consistency = torch.stack(parts).mean()
    loss = consistency + alpha * sharpness - beta * diversity
    return dict(zip(TERMS, (loss, consistency, sharpness, diversity), strict=True))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], views: Sequence[Tensor]) -> None:
    for name in TERMS:
        assert_close(found[name], expected[name], rtol=1e-10, atol=1e-11)
    actual, gradients = (torch.autograd.grad(terms["loss"], views) for terms in (found, expected))
    assert_close(torch.stack(actual), torch.stack(gradients), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize(("temperature", "epsilon"), [(1.0, 1e-5), (0.5, 1e-5), (1.0, 0.0), (2.0, 0.0)])
def test_multi_crop_is_the_mean_over_pairs(count: int, temperature: float, epsilon: float) -> None:
    views = [logits(7, 5, seed=seed) for seed in range(count)]
    options = {"alpha": 0.4, "beta": 0.7, "temperature": temperature, "epsilon": epsilon}
    assert_same(multi_crop_loss(views, **options), pairs(views, **options), views)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three rows each, where these tests' few rows would be one piece."""
    cut = [slice(0, 3), slice(3, 6), slice(6, 7)]
    monkeypatch.setattr(class_distributions, "pieces", lambda rows, each, device, caches: cut)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize(("temperature", "epsilon"), [(1.0, 1e-5), (0.5, 1e-5), (1.0, 0.0), (2.0, 0.0)])
def test_pieces_make_the_whole(count: int, taught: bool, temperature: float, epsilon: float) -> None:
    """Of logits that don't lie in memory in order, too; halves get the gradient of float64, rounded once."""
    views = [logits(5, 7, seed=seed).detach().T.requires_grad_() for seed in range(count)]
    teacher = [logits(7, 5, seed=seed).detach().bfloat16().double() for seed in (50, 51)]
    options = {"alpha": 0.4, "beta": 0.7, "temperature": temperature, "epsilon": epsilon}

    def loss(of: Sequence[Tensor]) -> dict[str, Tensor]:
        if not taught:
            return multi_crop_loss(of, **options)
        return teacher_loss([one.to(of[0].dtype) for one in teacher], of, **options)

    expected = with_teacher(teacher, views, **options) if taught else pairs(views, **options)
    assert_same(loss(views), expected, views)
    for dtype in (torch.bfloat16, torch.float16):
        halves = [view.detach().to(dtype).requires_grad_() for view in views]
        exact = [view.detach().double().requires_grad_() for view in halves]
        for found, one in zip(
            torch.autograd.grad(loss(halves)["loss"], halves),
            torch.autograd.grad(loss(exact)["loss"], exact),
            strict=True,
        ):
            assert found.dtype == dtype
            assert_close(found.double(), one, rtol=0.6 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize(("temperature", "epsilon"), [(1.0, 1e-5), (0.5, 1e-5), (2.0, 0.0)])
def test_teacher(count: int, temperature: float, epsilon: float) -> None:
    views, teacher = [logits(7, 5, seed=seed) for seed in range(count)], [logits(7, 5, seed=50), logits(7, 5, seed=51)]
    options = {"alpha": 0.4, "beta": 0.7, "temperature": temperature, "epsilon": epsilon}
    found = teacher_loss(teacher, views, **options)
    assert_same(found, with_teacher([z.detach() for z in teacher], views, **options), views)
    assert not any(
        gradient is not None
        for gradient in torch.autograd.grad(teacher_loss(teacher, views, **options)["loss"], teacher, allow_unused=True)
    )


@given(
    st.integers(1, 9), st.integers(1, 12), st.integers(2, 5), st.sampled_from([0.0, 1e-5, 1e-2]),
    st.sampled_from([0.1, 1.0, 30.0, 1000.0]), st.integers(0, 999),
)  # fmt: skip
def test_any_shape_in_float32(rows: int, classes: int, count: int, epsilon: float, scale: float, seed: int) -> None:
    views = [logits(rows, classes, seed=seed + place, scale=scale) for place in range(count)]
    narrow = [view.detach().float().requires_grad_() for view in views]
    found = multi_crop_loss(narrow, epsilon=epsilon)
    found["loss"].backward()
    assert all(view.grad is not None and view.grad.isfinite().all() for view in narrow)
    expected = multi_crop_loss(views, epsilon=epsilon)
    for name in TERMS:
        # at ε = 0 the logarithms are as large as the logits
        assert_close(found[name].double(), expected[name], rtol=2e-5, atol=2e-5 * (1 if epsilon else max(1.0, scale)))
        assert name == "loss" or float(found[name].detach()) >= -1.1 * epsilon - 1e-6


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize(("temperature", "epsilon"), [(1.0, 1e-2), (0.7, 1e-2), (1.0, 0.0)])
def test_gradcheck(name: str, temperature: float, epsilon: float) -> None:
    views = [logits(3, 4, seed=seed) for seed in range(4)]
    assert gradcheck(lambda *z: multi_crop_loss(z, temperature=temperature, epsilon=epsilon)[name], views)
    teacher = [logits(3, 4, seed=seed).detach() for seed in (50, 51)]
    options: dict[str, Any] = {"alpha": 0.4, "beta": 1.0, "temperature": temperature, "epsilon": epsilon}
    assert gradcheck(lambda *z: teacher_loss(teacher, z, **options)[name], views)


@pytest.mark.parametrize("epsilon", [1e-5, 0.0])
def test_values_of_constant_logits(epsilon: float) -> None:
    for classes in (2, 4096):
        terms = twist_loss(torch.zeros(6, classes), torch.zeros(6, classes), alpha=0.4, epsilon=epsilon)
        entropy = -log(1 / classes + epsilon)
        assert float(terms["consistency"]) == pytest.approx(0, abs=1e-6)
        assert float(terms["sharpness"]) == pytest.approx(entropy, rel=1e-6)
        assert float(terms["diversity"]) == pytest.approx(entropy, rel=1e-6)
        assert float(terms["loss"]) == pytest.approx(-0.6 * entropy, rel=1e-5)


def test_values_of_perfect_classes() -> None:
    z = 50 * torch.eye(16)
    assert float(twist_loss(z, z)["loss"]) == pytest.approx(-2.7724387, abs=1e-5)


def test_one_image_has_only_its_divergence() -> None:
    one, two = logits(1, 6), logits(1, 6, seed=1)
    terms = twist_loss(one, two)
    assert_close(terms["loss"], terms["consistency"])


def test_symmetries() -> None:
    views = [logits(8, 5, seed=seed).detach() for seed in range(4)]
    loss = multi_crop_loss(views)["loss"]
    rows, classes = torch.randperm(8), torch.randperm(5)
    assert_close(multi_crop_loss([view[rows] for view in views])["loss"], loss)
    assert_close(multi_crop_loss([view[:, classes] for view in views])["loss"], loss)
    assert_close(multi_crop_loss([views[place] for place in (1, 0, 3, 2)])["loss"], loss)
    assert_close(multi_crop_loss([views[0]] * 5)["loss"], twist_loss(views[0], views[0])["loss"])


def test_weights_of_the_views() -> None:
    weights = view_weights(14, teacher=False)
    assert weights == pytest.approx([0.26] * 2 + [0.04] * 12)
    assert view_weights(2, teacher=False) == [0.5, 0.5]


def test_losses_stay_in_float32_under_autocast() -> None:
    views = [logits(6, 5, seed=seed).detach().bfloat16().requires_grad_() for seed in range(3)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = [
            multi_crop_loss(views),
            teacher_loss(views[:2], views, alpha=0.4, beta=1.0),
            self_labeling_loss(views, quantile=0.5),
        ]
    exact = multi_crop_loss([view.detach().float() for view in views])
    assert_close(found[0]["loss"].detach(), exact["loss"])
    for terms in found:
        assert terms["loss"].dtype == torch.float32
        assert all(one.dtype == torch.bfloat16 for one in torch.autograd.grad(terms["loss"], views))


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="two or more matrices"):
        multi_crop_loss([torch.ones(3, 4)])
    with pytest.raises(ValueError, match="of one shape"):
        twist_loss(torch.ones(3, 4), torch.ones(4, 3))
    with pytest.raises(ValueError, match="two global views of the teacher"):
        teacher_loss([torch.ones(3, 4)] * 3, [torch.ones(3, 4)] * 3, alpha=1.0, beta=1.0)
    with pytest.raises(UserError, match="from 0 to 1"):
        self_labeling_loss([torch.ones(3, 4)] * 2, quantile=1.5)
    with pytest.raises(UserError, match="groups of 2"):
        self_labeling_loss([torch.ones(3, 4)] * 2, quantile=0.5, group=2)


def labelled(views: np.ndarray, quantile: float, group: int) -> tuple[float, float, float]:
    """Section 1.4 of the released method, image by image."""
    shifted = np.exp(views - views.max(2, keepdims=True))
    p = shifted / shifted.sum(2, keepdims=True)
    count, images = views.shape[:2]
    confidence = [max(p[0, i].max(), p[1, i].max()) for i in range(images)]
    thresholds, terms, kept = [], [], 0
    for start in range(0, images, group):
        members = range(start, start + group)
        ordered = sorted((confidence[i] for i in members), reverse=True)
        thresholds.append(ordered[min(int(quantile * group), group - 1)])
        for i in members:
            weak, strong = (0, 1) if p[0, i].max() > p[1, i].max() else (1, 0)
            if p[weak, i].max() > thresholds[-1]:
                kept += 1
                label = p[weak, i].argmax()
                terms.append(sum(-log(p[view, i, label]) for view in (strong, *range(2, count))) / (count - 1))
    return sum(terms) / max(kept, 1), float(np.mean(thresholds)), kept / images


@given(
    st.integers(2, 5), st.sampled_from([1, 2, 3, 6]), st.integers(1, 3), st.floats(0, 1), st.booleans(),
    st.integers(0, 999),
)  # fmt: skip
def test_self_labeling(count: int, group: int, groups: int, quantile: float, ties: bool, seed: int) -> None:
    views = [logits(group * groups, 4, seed=seed + place, scale=3).detach() for place in range(count)]
    if ties:
        views = [view.round() for view in views]
        views[1][::2] = views[0][::2]
    found = self_labeling_loss(views, quantile=quantile, group=group)
    loss, threshold, kept = labelled(torch.stack(views).numpy(), quantile, group)
    if not ties:  # a tie between two maxima that differ by rounding may fall either way
        assert float(found["loss"]) == pytest.approx(loss, abs=1e-9)
        assert float(found["kept"]) == pytest.approx(kept)
    assert float(found["threshold"]) == pytest.approx(threshold)


def test_self_labeling_keeps_half_and_teaches_the_strong_view() -> None:
    views = [logits(128, 10, seed=seed) for seed in range(4)]
    found = self_labeling_loss(views, quantile=0.5)
    assert float(found["kept"]) == 0.5
    gradients = torch.autograd.grad(found["loss"], views)
    first, second = ((gradient != 0).any(1) for gradient in gradients[:2])
    assert int(first.sum() + second.sum()) == 64
    assert not (first & second).any(), "the weak view's gradient is exactly 0"
    assert torch.equal(first | second, (gradients[2] != 0).any(1))
    swapped = self_labeling_loss([views[1], views[0], *views[2:]], quantile=0.5)
    assert_close(swapped["loss"], found["loss"])


def test_self_labeling_of_equal_views_takes_the_second_as_weak() -> None:
    one = logits(4, 3)
    two = one.detach().clone().requires_grad_()
    gradients = torch.autograd.grad(self_labeling_loss([one, two], quantile=0.5)["loss"], (one, two))
    assert (gradients[0] != 0).any()
    assert not gradients[1].any()


def test_self_labeling_that_keeps_nothing_touches_the_graph() -> None:
    views = [logits(4, 3, seed=seed) for seed in range(3)]
    found = self_labeling_loss(views, quantile=0.0)
    assert float(found["loss"].detach()) == 0 == float(found["kept"])
    assert not any(gradient.any() for gradient in torch.autograd.grad(found["loss"], views))
