"""Losses, optimisers and the schedule against numbers of the authors' released code."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from gemel.engine.optimizers import Lars
from gemel.methods.barlow_twins import barlow_twins_loss
from gemel.methods.twist import multi_crop_loss, self_labeling_loss, teacher_loss, twist_loss
from gemel.schedules import warmup_cosine

Golden = dict[str, Tensor]


def assert_gradient(actual: Tensor | None, expected: Tensor) -> None:
    """Equal to 1e-5 of the expected gradient's norm."""
    assert actual is not None
    assert (actual - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("form", ["correlation", "gram", "auto"])
def test_barlow_twins(golden: Golden, form: str) -> None:
    one, two = (golden[f"barlow.{name}"].clone().requires_grad_() for name in ("za", "zb"))
    terms = barlow_twins_loss(one, two, lambda_param=0.0051, form=form)
    terms["loss"].backward()
    assert_close(terms["invariance"], golden["barlow.on_diag"].squeeze(), rtol=1e-5, atol=0)
    assert_close(terms["redundancy"], golden["barlow.off_diag"].squeeze(), rtol=1e-5, atol=0)
    assert_close(terms["loss"], golden["barlow.loss"].squeeze(), rtol=1e-5, atol=0)
    assert_gradient(one.grad, golden["barlow.grad_za"])
    assert_gradient(two.grad, golden["barlow.grad_zb"])


@pytest.mark.parametrize(
    ("case", "alpha", "temperature"), [("default", 1.0, 1.0), ("vit", 0.4, 1.0), ("tau", 1.0, 0.5)]
)
def test_twist(golden: Golden, case: str, alpha: float, temperature: float) -> None:
    one, two = (golden[f"twist.{case}.{name}"].clone().requires_grad_() for name in ("f1", "f2"))
    terms = twist_loss(one, two, alpha=alpha, temperature=temperature)
    terms["loss"].backward()
    for name, key in (("consistency", "kl"), ("sharpness", "eh"), ("diversity", "he"), ("loss", "final")):
        assert_close(terms[name], golden[f"twist.{case}.{key}"].squeeze(), rtol=1e-5, atol=1e-6)
    assert_gradient(one.grad, golden[f"twist.{case}.grad_f1"])
    assert_gradient(two.grad, golden[f"twist.{case}.grad_f2"])


def gradients(views: list[Tensor]) -> Tensor:
    return torch.stack([view.grad for view in views if view.grad is not None])


def test_multi_crop(golden: Golden) -> None:
    views = [view.clone().requires_grad_() for view in golden["twist.multicrop.views"]]
    terms = multi_crop_loss(views)
    terms["loss"].backward()
    assert_close(terms["loss"], golden["twist.multicrop.loss"].squeeze(), rtol=1e-5, atol=1e-6)
    assert_gradient(gradients(views), golden["twist.multicrop.grads"])


def test_teacher(golden: Golden) -> None:
    views = [view.clone().requires_grad_() for view in golden["twist.multicrop.views"]]
    targets = golden["twist.teacher.teacher_probs"].log().unbind()
    terms = teacher_loss(targets, views, alpha=0.4, beta=1.0)
    terms["loss"].backward()
    for name, key in (("consistency", "kl"), ("sharpness", "eh"), ("diversity", "he"), ("loss", "loss_lam1_-0.6")):
        assert_close(terms[name], golden[f"twist.teacher.{key}"].squeeze(), rtol=1e-5, atol=1e-6)
    assert_gradient(gradients(views), golden["twist.teacher.grads"])


def test_self_labeling(golden: Golden) -> None:
    views = [view.clone().requires_grad_() for view in golden["twist.selflabel.views"]]
    terms = self_labeling_loss(views, quantile=float(golden["twist.selflabel.quantile"]))
    terms["loss"].backward()
    for name in ("loss", "threshold"):
        assert_close(terms[name], golden[f"twist.selflabel.{name}"].squeeze(), rtol=1e-5, atol=1e-6)
    assert float(terms["kept"]) == 0.5
    assert_gradient(gradients(views), golden["twist.selflabel.grads"])


def follow(weight: Tensor, bias: Tensor, gradients: tuple[Tensor, Tensor], rates: list[tuple[float, float]], **options):
    """Parameters after each step of LARS on a matrix and a bias that takes no trust ratio and no decay."""
    w, b = torch.nn.Parameter(weight.clone()), torch.nn.Parameter(bias.clone())
    groups = [{"params": [w]}, {"params": [b], "adapt": False, "weight_decay": 0.0}]
    lars = Lars(groups, lr=0.0, **options)
    for step, (rate, bias_rate) in enumerate(rates):
        lars.param_groups[0]["lr"], lars.param_groups[1]["lr"] = rate, bias_rate
        w.grad, b.grad = gradients[0][step].clone(), gradients[1][step].clone()
        lars.step()
        yield w.detach().clone(), b.detach().clone()


@pytest.mark.parametrize(
    ("key", "rates", "decay", "flavour"),
    [("lars_bt", (0.2, 0.0048), 1e-6, "L1"), ("lars_twist", (0.5, 0.5), 1.5e-6, "L2")],
)
def test_lars(golden: Golden, key: str, rates: tuple[float, float], decay: float, flavour: str) -> None:
    gradients = (golden["lars_bt.gw"], golden["lars_bt.gb"])
    steps = follow(
        golden["lars_bt.w0"], golden["lars_bt.b0"], gradients, [rates] * 5, weight_decay=decay, flavour=flavour
    )
    for step, (w, b) in enumerate(steps):
        assert_close(w, golden[f"{key}.w"][step], rtol=1e-6, atol=1e-7)
        assert_close(b, golden[f"{key}.b"][step], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("flavour", ["L1", "L2"])
def test_lars_flavours_differ(golden: Golden, flavour: str) -> None:
    rates = [(rate, rate) for rate in golden["lars_decay.lr"].tolist()]
    gradients = (golden["lars_decay.gw"], golden["lars_decay.gb"])
    options = {"weight_decay": 0.2, "flavour": flavour}
    other = "l2" if flavour == "L1" else "l1"
    for step, (w, b) in enumerate(
        follow(golden["lars_decay.w0"], golden["lars_decay.b0"], gradients, rates, **options)
    ):
        assert_close(w, golden[f"lars_decay.{flavour.lower()}.w"][step], rtol=1e-6, atol=1e-7)
        assert_close(b, golden[f"lars_decay.{flavour.lower()}.b"][step], rtol=1e-6, atol=1e-7)
    assert not torch.allclose(w, golden[f"lars_decay.{other}.w"][-1], rtol=1e-5, atol=1e-6)


def test_schedule(golden: Golden) -> None:
    for step, weights, biases in golden["schedule_bt"].tolist():
        factor = warmup_cosine(step / 2000, warmup=0.1, final=1e-3)
        assert_close(torch.tensor(0.2 * 2048 / 256 * factor), torch.tensor(weights), rtol=1e-5, atol=1e-8)
        assert_close(torch.tensor(0.0048 * 2048 / 256 * factor), torch.tensor(biases), rtol=1e-5, atol=1e-8)


def test_twist_without_epsilon_has_no_nan() -> None:
    """A class that no row takes underflows to probability 0: its gradient is a number all the same."""
    logits = torch.randn(8, 5)
    logits[:, 2] = -300.0
    one, two = logits.clone().requires_grad_(), (logits + 0.1).requires_grad_()
    twist_loss(one, two, epsilon=0)["loss"].backward()
    assert one.grad is not None
    assert torch.isfinite(one.grad).all()
