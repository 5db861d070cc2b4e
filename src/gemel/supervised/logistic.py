"""Logistic regression on features in memory, over a path of penalties, each solved to its optimum (see lbfgs.py)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gemel.errors import UserError
from gemel.supervised.lbfgs import Axes, Linear, Task, solve_path


def fit_path(
    features: Tensor, labels: Tensor, strengths: Sequence[float], *, classes: int, tolerance: float = 1e-7
) -> list[Linear]:
    r"""Fit multinomial logistic regression for each of several penalties.

    L(W, b) = 1/N Σ_i -log softmax(W x_i + b)_{y_i} + μ/2 |W|²,   b unpenalised

    scikit-learn's C is 1 / (μ N). Solved from the strongest penalty to the weakest; returned in the order given.
    A class without a sample gets zero weights and a bias of -inf, which is the limit of its optimum.

    Args:
        features: (N, D), float32 or float64: the type of the products; sums are always float64.
        labels: (N,) in 0..C-1.
        strengths: the values of μ, above 0.
        classes: C.
        tolerance: a value is solved when half of gᵀ H⁻¹ g, the gradient's size in the metric of the L-BFGS Hessian and
            an estimate of L - min L, is below this share of L.

    Raises:
        UserError: sizes that do not fit, NaN or infinite features, labels out of range or of one class alone.
    """
    _check(features, labels.shape[:1], strengths)
    if labels.ndim != 1 or labels.min() < 0 or labels.max() >= classes:
        raise UserError(f"labels must be (N,) numbers from 0 to {classes - 1}; given {tuple(labels.shape)}")
    present, own = labels.unique(return_inverse=True)
    if len(present) < 2:
        raise UserError(f"all {len(labels)} labels are {int(present[0])}; a classifier needs at least two classes")
    task = _Softmax(Axes(features), own)
    solved = solve_path(task, task.start(len(present)), strengths, tolerance)
    return [_spread(one, present, classes) for one in solved]


def fit_binary_path(
    features: Tensor, targets: Tensor, strengths: Sequence[float], *, tolerance: float = 1e-7
) -> list[Linear]:
    r"""Fit independent binary logistic regressions, one per class, for each of several penalties.

    L(W, b) = Σ_c [1/N Σ_{i: t_ic >= 0} log(1 + exp(-(2 t_ic - 1) (w_c x_i + b_c))) + μ/2 |w_c|²]

    Args:
        features: (N, D), as in `fit_path`.
        targets: (N, C): 1 present, 0 absent, -1 the sample is left out for this class.
        strengths: the values of μ, above 0.
        tolerance: as in `fit_path`, for the sum over the classes.

    Raises:
        UserError: as in `fit_path`; a class without a positive or without a negative sample.
    """
    _check(features, targets.shape[:1], strengths)
    if targets.ndim != 2 or not bool(torch.isin(targets, torch.tensor([-1, 0, 1], device=targets.device)).all()):
        raise UserError(f"targets must be (N, C) of 1, 0 and -1; given {tuple(targets.shape)}")
    lonely = [c for c in range(targets.shape[1]) if not {0, 1} <= set(targets[:, c].tolist())]
    if lonely:
        raise UserError(f"classes {lonely} have no positive or no negative sample; each class needs both")
    task = _Sigmoid(Axes(features), targets)
    return solve_path(task, task.start(), strengths, tolerance)


class _Softmax(Task):
    def __init__(self, axes: Axes, labels: Tensor) -> None:
        super().__init__(axes)
        self.own = labels[:, None]

    def start(self, classes: int) -> Tensor:
        """Return the optimum of an infinite penalty: the classes' shares."""
        theta = torch.zeros(classes, self.axes.rows.shape[1] + 1, dtype=torch.float64, device=self.own.device)
        shares = self.own.flatten().bincount(minlength=classes).double().log()
        theta[:, -1] = shares - shares.mean()
        return theta

    def losses(self, logits: Tensor) -> tuple[float, Tensor]:
        """Use differences to the own class's logit: small losses and residuals keep all their digits in float32."""
        logits -= logits.gather(1, self.own)
        most = logits.max(dim=1, keepdim=True).values  # >= 0
        shares = logits.sub_(most).exp_().scatter_(1, self.own, 0.0)
        others, mine = shares.sum(dim=1, keepdim=True), torch.exp(-most)
        total = (most + torch.log1p(others + torch.expm1(-most))).sum(dtype=torch.float64)
        shares /= others + mine
        return float(total), shares.scatter_(1, self.own, -others / (others + mine))

    def covariance(self) -> Tensor:
        shares = self.residuals.clone()
        shares.scatter_add_(1, self.own, torch.ones_like(self.own, dtype=shares.dtype))
        return (shares.sum(0).diag() - shares.T @ shares).double() / len(shares)


class _Sigmoid(Task):
    def __init__(self, axes: Axes, targets: Tensor) -> None:
        super().__init__(axes)
        self.known = (targets >= 0).to(axes.rows.dtype)
        self.signs = (2 * targets - 1).to(axes.rows.dtype)

    def start(self) -> Tensor:
        """Return the optimum of an infinite penalty: each class's share."""
        classes = self.signs.shape[1]
        theta = torch.zeros(classes, self.axes.rows.shape[1] + 1, dtype=torch.float64, device=self.signs.device)
        there, absent = ((self.signs * side > 0) * self.known for side in (1, -1))
        theta[:, -1] = (there.sum(0).double() / absent.sum(0)).log()
        return theta

    def losses(self, logits: Tensor) -> tuple[float, Tensor]:
        margins = self.signs * logits
        total = (torch.nn.functional.softplus(-margins, threshold=80.0) * self.known).sum(dtype=torch.float64)
        return float(total), -self.signs * self.known * torch.sigmoid(-margins)

    def covariance(self) -> Tensor:
        shares = self.residuals.abs()
        return (shares * (1 - shares)).double().mean(0).diag()


def _check(features: Tensor, rows: torch.Size, strengths: Sequence[float]) -> None:
    if features.ndim != 2 or features.shape[:1] != rows or not len(features):
        raise UserError(f"features {tuple(features.shape)} for labels of {tuple(rows)} samples; give (N, D) and N")
    if not features.is_floating_point() or not bool(torch.isfinite(features).all()):
        raise UserError("the features hold NaN or infinite values, or integers; give finite floats")
    wrong = [strength for strength in strengths if not 0 < strength < math.inf]
    if wrong or not strengths:
        raise UserError(f"strengths {list(strengths)}; give at least one, each above 0 and finite")


def _spread(one: Linear, present: Tensor, classes: int) -> Linear:
    """Add rows for the classes without samples."""
    weight = one.weight.new_zeros(classes, one.weight.shape[1])
    bias = one.bias.new_full((classes,), -math.inf)
    weight[present], bias[present] = one.weight, one.bias
    return one._replace(weight=weight, bias=bias)
