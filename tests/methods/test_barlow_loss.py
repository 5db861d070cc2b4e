"""Barlow Twins' loss: both forms against the equation written out; the values that its paper implies."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import hadamard
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from gemel.backbones.convnet import convnet
from gemel.data.plan import Batch
from gemel.methods.barlow_twins import BarlowTwins, barlow_twins_loss
from gemel.methods.parts.barlow_loss import PAPER, Variant
from gemel.methods.parts.cross_correlation import cheaper_form, correlation_terms

FORMS = ("correlation", "gram")
WIDTH = 128  # of the features of the smallest backbone


def written_out(one: Tensor, two: Tensor, lambda_param: float = 0.0051) -> dict[str, Tensor]:
    z1, z2 = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (one, two))
    matrix = z1.T @ z2 / len(one)
    invariance = (1 - matrix.diagonal()).square().sum()
    redundancy = (matrix - matrix.diagonal().diag()).square().sum()
    return {"loss": invariance + lambda_param * redundancy, "invariance": invariance, "redundancy": redundancy}


def views(n: int, width: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    one, noise = (torch.randn(n, width, generator=generator, dtype=dtype) for _ in range(2))
    return one.requires_grad_(), (one.detach() + 0.5 * noise).requires_grad_()


def terms_and_gradients(one: Tensor, two: Tensor, **options: Any) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    terms = barlow_twins_loss(one, two, **options)
    return terms, torch.autograd.grad(terms["loss"], (one, two))


def columns() -> Tensor:
    return torch.tensor(hadamard(16)[:, 1:9], dtype=torch.float64)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "width"), [(2, 1), (2, 9), (12, 7), (12, 12), (7, 1500), (600, 5), (1100, 3)])
def test_equation(form: str, n: int, width: int) -> None:
    one, two = views(n, width)
    expected = written_out(one, two)
    gradients = torch.autograd.grad(expected["loss"], (one, two))
    terms, found = terms_and_gradients(one, two, form=form)
    scale = float(expected["loss"].detach()) + width
    for name, value in expected.items():
        assert_close(terms[name], value, rtol=1e-10, atol=1e-12 * scale)
    for actual, gradient in zip(found, gradients, strict=True):
        assert (actual - gradient).norm() <= 1e-10 * gradient.norm() + 1e-12


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["invariance", "redundancy"])
@pytest.mark.parametrize("standardised", [True, False])
def test_gradcheck(form: Any, name: str, standardised: bool) -> None:
    for n, width in ((5, 3), (3, 6)):
        one, two = views(n, width)
        assert gradcheck(
            lambda one, two: correlation_terms(one, two, form=form, standardised=standardised)[name], (one, two)
        )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("standardised", [True, False])
@pytest.mark.parametrize(("n", "width"), [(12, 7), (7, 300)])
def test_one_view_is_both(form: Any, standardised: bool, n: int, width: int) -> None:
    """Left out, the second view is the first: in values and in gradients, where it counts twice."""
    found: list[Tensor] = []
    for second in (False, True):
        one = views(n, width)[0]
        terms = correlation_terms(one, one if second else None, form=form, standardised=standardised)
        (gradient,) = torch.autograd.grad(terms["invariance"] + 3 * terms["redundancy"], one)
        found.append(torch.cat([terms["invariance"][None], terms["redundancy"][None], gradient.flatten()]).detach())
    assert_close(found[0], found[1], rtol=1e-10, atol=1e-10)


@st.composite
def hard_views(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    n, width = draw(st.integers(2, 40)), draw(st.integers(1, 60))
    kind = draw(st.sampled_from(["random", "constant", "duplicated", "equal", "offset"]))
    one, two = (view.detach() for view in views(n, width, draw(st.integers(0, 999)), torch.float32))
    if kind == "constant":
        one[:, ::2] = 1.2345
        two[:, ::3] = -7.0
    elif kind == "duplicated":
        one[1::2], two[1::2] = one[0 : n - 1 : 2].clone(), two[0 : n - 1 : 2].clone()
    elif kind == "equal":
        one = two = torch.linalg.qr(one - one.mean(0))[0] * n**0.5 if n > width else one
    elif kind == "offset":
        one, two = one + 100, two - 30
    scale = 10.0 ** draw(st.integers(-6, 6))
    return scale * one, scale * two


@given(hard_views())
def test_forms_agree_in_float32(pair: tuple[Tensor, Tensor]) -> None:
    one, two = (view.clone().requires_grad_() for view in pair)
    expected = written_out(*(view.double() for view in pair))
    found = {form: terms_and_gradients(one, two, form=form) for form in FORMS}
    square = expected["redundancy"] + one.shape[1]
    tolerance = float(1e-5 * (one.shape[1] + 0.0051 * square))
    for terms, gradients in found.values():
        assert abs(float(terms["loss"].detach() - expected["loss"])) <= tolerance
        assert all(float(value.detach()) >= 0 for value in terms.values())
        assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("form", FORMS)
def test_constant_column_of_a_million_is_nothing(form: str) -> None:
    """A mean that is rounded must not leave noise that the division by σ makes as large as a signal."""
    one, two = views(30, 4, dtype=torch.float32)
    one, two = one.detach(), two.detach()
    without = barlow_twins_loss(one, two, form=form)
    constant = torch.full((30, 1), 1234567.0)
    terms = barlow_twins_loss(torch.cat([one, constant], 1), torch.cat([two, constant], 1), form=form)
    assert_close(terms["invariance"], without["invariance"] + 1)
    assert_close(terms["redundancy"], without["redundancy"])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_of_orthogonal_columns(form: str, dtype: torch.dtype) -> None:
    z = columns().to(dtype)
    equal = float(barlow_twins_loss(z, z, form=form)["loss"])
    assert equal == pytest.approx(8e-10, rel=0.05, abs=0 if dtype == torch.float64 else 1e-8)
    assert float(barlow_twins_loss(z, -z, form=form)["loss"]) == pytest.approx(31.99968, abs=2e-5)
    same = z[:, :1].expand(-1, 8)
    assert float(barlow_twins_loss(same, same, form=form)["loss"]) == pytest.approx(0.285594, abs=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_expectation_of_independent_views(form: str) -> None:
    n, width = 64, 32
    generator = torch.Generator().manual_seed(0)
    losses = [
        barlow_twins_loss(*torch.randn(2, n, width, generator=generator).unbind(), form=form)["loss"]
        for _ in range(200)
    ]
    expected = width * (1 + 1 / (n - 1)) + 0.0051 * width * (width - 1) / (n - 1)
    assert float(torch.stack(losses).mean()) == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("form", FORMS)
def test_symmetries(form: str) -> None:
    one, two = (1000 * view.detach() for view in views(20, 6))
    loss = barlow_twins_loss(one, two, form=form)["loss"]
    assert_close(barlow_twins_loss(two, one, form=form)["loss"], loss)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    assert_close(barlow_twins_loss(one[order], two[order], form=form)["loss"], loss)
    factors = torch.linspace(1, 9, 6, dtype=torch.float64)
    assert_close(barlow_twins_loss(one * factors - 5, two + factors, form=form)["loss"], loss, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(form: str, dtype: torch.dtype) -> None:
    """Products of 1e4 rows would round, and sums overflow, in half precision; under autocast as without."""
    one, two = (view.detach().to(dtype).requires_grad_() for view in views(300, 200))
    expected = written_out(one.detach().double(), two.detach().double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = barlow_twins_loss(one, two, form=form)
        terms["loss"].backward()  # inside autocast, which must not reach the backward's products either
    for name, value in expected.items():
        assert terms[name].dtype == torch.float32
        assert_close(terms[name].double(), value, rtol=1e-5, atol=1e-5)
    exact = [view.detach().float().requires_grad_() for view in (one, two)]
    barlow_twins_loss(*exact, form=form)["loss"].backward()
    for view, reference in zip((one, two), exact, strict=True):
        assert view.grad is not None and view.grad.dtype == dtype and reference.grad is not None
        assert_close(view.grad.float(), reference.grad, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_one_view_may_take_no_gradient(form: str) -> None:
    one, two = views(6, 9)
    _, (expected, _) = terms_and_gradients(one, two, form=form)
    loss = barlow_twins_loss(one, two.detach(), form=form)["loss"]
    assert_close(torch.autograd.grad(loss, one)[0], expected)


@pytest.mark.parametrize("form", FORMS)
def test_backward_twice_and_columns_that_are_not_contiguous(form: str) -> None:
    wide, other = views(6, 20)
    one, two = wide[:, ::2], other.T.contiguous().T[:, 1::2]
    loss = barlow_twins_loss(one, two, form=form)["loss"]
    first = torch.autograd.grad(loss, wide, retain_graph=True)[0]
    assert_close(torch.autograd.grad(loss, wide)[0], first, rtol=0, atol=0)
    assert_close(torch.autograd.grad(written_out(one, two)["loss"], wide)[0], first)


def test_form_follows_costs() -> None:
    assert cheaper_form(256, 131072) == "gram"
    assert cheaper_form(4096, 128) == "correlation"
    # the D x D matrix is the smaller thing to send where all rows together are many
    assert cheaper_form(64, 4096, processes=2) == "gram"
    assert cheaper_form(64, 4096, processes=512) == "correlation"


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="of one shape"):
        barlow_twins_loss(torch.ones(3, 4), torch.ones(4, 3))
    with pytest.raises(ValueError, match="auto, correlation or gram"):
        barlow_twins_loss(torch.ones(3, 4), torch.ones(3, 4), form="other")  # pyright: ignore[reportArgumentType]


def expected_variant(one: Tensor, two: Tensor, variant: Variant) -> tuple[Tensor, Tensor]:
    """Invariance and redundancy by the D x D matrix, straight from the definitions of Table 5."""
    centred = [z - z.mean(0) for z in (one, two)]
    z1, z2 = centred if variant.normalisation == "centre" else [z / (z.square().mean(0) + 1e-5).sqrt() for z in centred]
    n, width = one.shape
    if variant.normalisation == "features":
        factor = {"width": width, "mean": 1, "sum": n}[variant.feature_scale]
        z1, z2 = (z / z.norm(dim=1, keepdim=True) * factor**0.5 for z in (z1, z2))
    off = 1 - torch.eye(width, dtype=one.dtype)
    matrix = z1.T @ z2 / n
    if variant.temperature is not None:
        powers = ((matrix.clamp_min(0) / variant.temperature).exp() * off).sum()
        return -(matrix.diagonal() / variant.temperature).exp().sum().log(), powers.log()
    others = [matrix] if variant.redundancy_of == "cross" else [z1.T @ z1 / n, z2.T @ z2 / n]
    redundancy = torch.stack([(other * off).square().sum() for other in others]).mean()
    return (1 - matrix.diagonal()).square().sum(), redundancy


VARIANTS = [
    Variant(normalisation=normalisation, feature_scale=scale, redundancy_of=of, temperature=temperature)
    for normalisation, scale, of, temperature in product(
        ("batch", "features", "centre"), ("width", "mean", "sum"), ("cross", "auto"), (None, 0.5)
    )
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "width"), [(9, 4), (4, 9)])
def test_variants(form: Any, n: int, width: int) -> None:
    for variant in VARIANTS:
        one, two = views(n, width)
        invariance, redundancy = expected_variant(one, two, variant)
        gradients = torch.autograd.grad(invariance + 0.1 * redundancy, (one, two))
        terms, found = terms_and_gradients(one, two, lambda_param=0.1, form=form, variant=variant)
        assert_close((terms["invariance"], terms["redundancy"]), (invariance, redundancy))
        assert_close(found, gradients, msg=lambda text, variant=variant: f"{variant}: {text}")


def test_each_term_alone() -> None:
    one, two = views(8, 5)
    whole = written_out(one, two)
    alone = barlow_twins_loss(one, two, variant=replace(PAPER, terms="invariance"))
    assert_close(alone["loss"], whole["invariance"])
    alone = barlow_twins_loss(one, two, variant=replace(PAPER, terms="redundancy"))
    assert_close(alone["loss"], 0.0051 * whole["redundancy"])
    assert_close(alone["invariance"], whole["invariance"])


def test_cross_entropy_of_orthogonal_columns() -> None:
    """C = I, D = 8, τ 0.1, λ 0.5: -(10 + log 8) + ½ log 56."""
    variant = Variant(normalisation="centre", temperature=0.1)
    terms = barlow_twins_loss(columns(), columns(), lambda_param=0.5, variant=variant)
    assert float(terms["loss"]) == pytest.approx(-10.0668, abs=1e-4)
    zeros = torch.zeros_like(columns())
    terms = barlow_twins_loss(zeros, zeros, lambda_param=0.5, variant=variant)
    assert float(terms["loss"]) == pytest.approx(-0.0668, abs=1e-4)
    with pytest.raises(ValueError, match="no off-diagonal"):
        barlow_twins_loss(zeros[:, :1], zeros[:, :1], variant=variant)


def test_features_of_length_one_have_the_identity_as_optimum() -> None:
    variant = Variant(normalisation="features")
    assert float(barlow_twins_loss(columns(), columns(), variant=variant)["loss"]) < 1e-9


def method(**options: Any) -> BarlowTwins:
    torch.manual_seed(0)
    return BarlowTwins(convnet(widths=(8,), strides=(2,)), projector=(16, 12), **options)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(10, 3, 8, 8, generator=generator, requires_grad=True) for _ in range(2)]
    return Batch(images, torch.arange(10), torch.full((10,), -1))


def test_stop_gradient_and_predictor() -> None:
    """Table 6: the second view's branch takes no gradient; the predictor stands on the first."""
    for stop in (False, True):
        data = batch()
        method(stop_gradient=stop, predictor=20)(data, 0.0)["loss"].backward()
        assert data.views[0].grad is not None
        assert (data.views[1].grad is None) == stop
    plain, predicting = method(), method(predictor=20)
    assert torch.equal(plain.embed(torch.ones(2, WIDTH)), predicting.embed(torch.ones(2, WIDTH)))
    assert not torch.equal(plain(batch(), 0.0)["loss"], predicting(batch(), 0.0)["loss"])


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm1d), ("group", nn.GroupNorm), ("none", None)])
def test_norm_of_the_projector(norm: Any, kind: type[nn.Module] | None) -> None:
    layers = list(method(projector_norm=norm).projector)
    norms = [layer for layer in layers if not isinstance(layer, nn.Linear | nn.ReLU)]
    assert [type(layer) for layer in norms] == [kind] * (kind is not None)
    features = torch.randn(9, WIDTH, generator=torch.Generator().manual_seed(0))
    assert method(projector_norm=norm).embed(features).std(0).min() > 0


def test_method_takes_the_variants() -> None:
    for options in (
        {"terms": "invariance"},
        {"normalisation": "centre"},
        {"temperature": 0.5},
        {"redundancy_of": "auto"},
    ):
        given = method(**options)
        assert given.variant == Variant(**options)
        assert torch.isfinite(given(batch(), 0.0)["loss"])
