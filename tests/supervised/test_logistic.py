import math
import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy

from gemel.errors import UserError
from gemel.supervised.logistic import fit_binary_path, fit_path

PATH = np.logspace(-6, 5, 45) / 500


def digits(count: int = 500) -> tuple[Tensor, Tensor]:
    bunch = load_digits()
    return torch.from_numpy(bunch.data[:count] / 16), torch.from_numpy(bunch.target[:count]).long()


def overlapping(samples: int, width: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Clusters that overlap, on axes of very different size, far from the origin."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (samples,), generator=draw)
    centres = torch.randn(classes, width, generator=draw, dtype=torch.float64)
    features = centres[labels] + 2 * torch.randn(samples, width, generator=draw, dtype=torch.float64)
    return 5 + features * torch.logspace(-2, 1, width, dtype=torch.float64), labels


def scikit_learn_loss(features: Tensor, labels: Tensor, strength: float) -> float:
    model = LogisticRegression(C=1 / (strength * len(labels)), tol=1e-9, max_iter=200, solver="newton-cholesky")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the search stops at the precision of floats
        model.fit(features.numpy(), labels.numpy())
    weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    return float(cross_entropy(features @ weight.T + bias, labels) + strength / 2 * weight.square().sum())


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_every_value_reaches_scikit_learns_optimum(kind: torch.dtype) -> None:
    features, labels = overlapping(600, 24, 5)
    strengths = [3e-2, 1e-5, 10.0, 1e-3, 1e-1]  # in no order
    found = fit_path(features.to(kind), labels, strengths, classes=5)
    for one, strength in zip(found, strengths, strict=True):
        assert one.strength == strength
        assert one.weight.shape == (5, 24)
        assert one.weight.dtype == kind
        expected = scikit_learn_loss(features, labels, strength)
        assert one.loss == pytest.approx(expected, rel=1e-5)
        own = cross_entropy(one.logits(features.to(kind)).double(), labels) + strength / 2 * one.weight.square().sum()
        assert float(own) == pytest.approx(one.loss, rel=1e-4)


def test_the_papers_path_on_digits() -> None:
    features, labels = digits()
    found = fit_path(features, labels, PATH.tolist(), classes=10)
    exact = fit_path(features, labels, PATH[::11].tolist(), classes=10, tolerance=1e-11)
    for one, other in zip(found[::11], exact, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-4)
    losses = [one.loss for one in found]
    assert losses == sorted(losses)
    norms = [float(one.weight.norm()) for one in found]
    assert norms == sorted(norms, reverse=True)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_it_is_told_whether_the_tolerance_was_reached(kind: torch.dtype) -> None:
    features, labels = digits()
    features = features.to(kind)
    assert all(one.solved for one in fit_path(features, labels, PATH.tolist(), classes=10))
    hopeless = fit_path(features, labels, [0.01], classes=10, tolerance=0.0)
    assert not any(one.solved for one in hopeless)
    (near,) = fit_path(features, labels, [0.01], classes=10)
    assert hopeless[0].loss == pytest.approx(near.loss, rel=1e-6)


def test_an_infinite_penalty_gives_the_prior_and_none_separates() -> None:
    features, labels = digits(120)
    weak, strong = fit_path(features.float(), labels, [1e-9, 1e9], classes=10)
    prior = labels.bincount().double() / len(labels)
    assert torch.allclose(strong.logits(features.float()).softmax(1).double(), prior.expand(120, 10), atol=1e-6)
    assert bool((weak.logits(features.float()).argmax(1) == labels).all())
    assert weak.loss < 1e-5


def test_scaled_features_with_a_scaled_penalty_predict_alike() -> None:
    features, labels = overlapping(300, 10, 4)
    (plain,) = fit_path(features, labels, [1e-2], classes=4, tolerance=1e-12)
    (scaled,) = fit_path(features * 7, labels, [1e-2 * 49], classes=4, tolerance=1e-12)
    assert torch.allclose(plain.logits(features), scaled.logits(features * 7), atol=1e-5)


def test_more_numbers_than_samples_and_constant_columns() -> None:
    features, labels = overlapping(40, 90, 3)
    features[:, 5] = 4.0
    (found,) = fit_path(features, labels, [1e-2], classes=3, tolerance=1e-10)
    assert found.loss == pytest.approx(scikit_learn_loss(features, labels, 1e-2), rel=1e-5)
    assert torch.allclose(found.weight[:, 5], torch.zeros(3, dtype=torch.float64), atol=1e-6)
    (constant,) = fit_path(torch.ones(40, 3), labels, [1.0], classes=3)
    assert torch.allclose(constant.logits(torch.ones(1, 3)).softmax(1)[0], labels.bincount() / 40, atol=1e-5)


def test_a_class_without_samples_is_never_chosen() -> None:
    features, labels = overlapping(200, 6, 3)
    (found,) = fit_path(features, labels * 2, [1e-2], classes=6)
    (dense,) = fit_path(features, labels, [1e-2], classes=3)
    assert torch.equal(found.weight[[0, 2, 4]], dense.weight)
    assert found.bias[[1, 3, 5]].tolist() == [-math.inf] * 3
    assert torch.equal(found.logits(features).argmax(1), 2 * dense.logits(features).argmax(1))


def test_binary_regressions_are_independent_and_leave_samples_out() -> None:
    features, labels = overlapping(300, 8, 3)
    targets = (labels[:, None] == torch.arange(3)).long()
    targets[::7, 1] = -1
    (found,) = fit_binary_path(features, targets, [1e-2], tolerance=1e-13)
    for one in range(3):
        kept = targets[:, one] >= 0
        signs = 2 * targets[kept, one].double() - 1

        def loss(theta: np.ndarray, kept: Tensor = kept, signs: Tensor = signs) -> tuple[float, np.ndarray]:
            free = torch.from_numpy(theta).requires_grad_()
            margins = signs * (features[kept] @ free[:-1] + free[-1])
            total = -torch.nn.functional.logsigmoid(margins).sum() / 300 + 0.005 * free[:-1].square().sum()
            total.backward()
            return float(total.detach()), free.grad.numpy()  # pyright: ignore[reportOptionalMemberAccess]

        start = np.append(found.weight[one], found.bias[one])
        best = minimize(loss, np.zeros(9), jac=True, method="BFGS", options={"gtol": 1e-10})
        assert loss(start)[0] == pytest.approx(best.fun, rel=1e-6)


def test_mistakes() -> None:
    features, labels = digits(60)
    for wrong, words in [
        ({"features": features[:50]}, "give"),
        ({"features": features * torch.nan}, "finite"),
        ({"features": features.long()}, "finite floats"),
        ({"labels": labels * 0 + 3}, "all 60 labels are 3"),
        ({"labels": labels - 1}, "0 to 9"),
        ({"strengths": [1.0, 0.0]}, "above 0"),
        ({"strengths": []}, "at least one"),
    ]:
        given = {"features": features, "labels": labels, "strengths": [1.0]} | wrong
        with pytest.raises(UserError, match=words):
            fit_path(given["features"], given["labels"], given["strengths"], classes=10)
    with pytest.raises(UserError, match=r"classes \[1\]"):
        fit_binary_path(features, torch.stack([labels % 2, labels * 0], 1), [1.0])
    with pytest.raises(UserError, match="1, 0 and -1"):
        fit_binary_path(features, labels[:, None], [1.0])
