"""L-BFGS along a path of penalties, for losses that are convex in the logits of a linear map.

In the basis of the features' principal axes. Three things make a path cheap without changing any optimum: centring, as
the biases are not penalised; at each penalty an initial inverse Hessian from the Kronecker product of the features'
spectrum and the classes' covariance; warm starts with solution, direction, and pairs of steps and gradients.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_MEMORY = 30  # pairs of L-BFGS
_STEPS = 3000  # for one penalty; on a path of 45 each needs about ten
_TRIES = 30  # of one line search


class Linear(NamedTuple):
    """A linear classifier: logits = features @ weight.T + bias."""

    weight: Tensor
    """(C, D)"""
    bias: Tensor
    """(C,)"""
    loss: float
    """the objective at its optimum, penalty included"""
    strength: float
    """the penalty's weight"""
    solved: bool
    """whether the tolerance was reached; else it stopped after too many steps, or where rounding hid progress"""

    def logits(self, features: Tensor) -> Tensor:
        """Return (N, C) of features (N, D)."""
        return torch.addmm(self.bias, features, self.weight.T)


class Axes:
    """Features, centred and rotated to their principal axes; axes beyond the rank are left out.

    Exact: the penalty is the same in every orthogonal basis, and the gradient never leaves the rows' span.
    """

    def __init__(self, features: Tensor) -> None:
        self.mean = features.mean(0, dtype=torch.float64).to(features.dtype)
        centred = features - self.mean
        rank = min(len(features), features.shape[1])
        spectrum, axes = torch.linalg.eigh((centred.T @ centred).double() / len(features))
        self.axes = axes[:, -rank:].to(features.dtype)  # (D, rank)
        self.spectrum = spectrum[-rank:].clamp_min(0)
        self.rows = centred @ self.axes  # (N, rank)

    def linear(self, theta: Tensor, loss: float, strength: float, solved: bool) -> Linear:
        """Return the classifier of the original features."""
        weight = theta[:, :-1] @ self.axes.T.double()
        bias = theta[:, -1] - weight @ self.mean.double()
        return Linear(weight.to(self.rows.dtype), bias.to(self.rows.dtype), loss, strength, solved)


class Task(ABC):
    """A loss of logits (N, C) without its penalty; theta (C, rank + 1) holds the weights and, last, the biases."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes

    def __call__(self, theta: Tensor, penalty: Tensor) -> tuple[float, Tensor]:
        """Return objective and gradient. penalty: (rank + 1,), the strength of each column, 0 for the biases."""
        rows = self.axes.rows
        logits = torch.addmm(theta[:, -1].to(rows.dtype), rows, theta[:, :-1].T.to(rows.dtype))
        total, self.residuals = self.losses(logits)
        slopes = torch.cat([self.residuals.T @ rows, self.residuals.sum(0)[:, None]], dim=1).double()
        loss = total / len(rows) + 0.5 * float((penalty * theta.square()).sum())
        return loss, slopes / len(rows) + penalty * theta

    @abstractmethod
    def losses(self, logits: Tensor) -> tuple[float, Tensor]:
        """Return the sum of the samples' losses, and its derivative by the logits; may write into `logits`."""

    @abstractmethod
    def covariance(self) -> Tensor:
        """Return (C, C), the mean over samples of the loss's second derivative by the logits, as last evaluated."""


class _Scaling:
    """The inverse of (class covariance ⊗ spectrum of the features + penalty): the initial inverse Hessian."""

    def __init__(self, task: Task, penalty: Tensor) -> None:
        widths, self.classes = torch.linalg.eigh(task.covariance())
        spectrum = torch.cat([task.axes.spectrum, torch.ones_like(penalty[:1])])  # the biases see a column of ones
        size = widths.clamp_min(float(widths.max()) * 1e-6)[:, None] * spectrum + penalty
        self.size = size.clamp_min(float(size.max()) * 1e-12)

    def __call__(self, slopes: Tensor) -> Tensor:
        return self.classes @ ((self.classes.T @ slopes) / self.size)


class _Pairs:
    """The last steps and the changes of the gradient: the two-loop recursion of L-BFGS (Nocedal 1980)."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def add(self, step: Tensor, change: Tensor) -> None:
        if float((step * change).sum()) > 1e-14 * float(step.square().sum()):
            self.pairs = [*self.pairs[1 - _MEMORY :], (step, change)]

    def move(self, difference: Tensor) -> None:
        """Follow a change of the penalty, by which each pair's gradient changes exactly."""
        self.pairs = [(step, change + difference * step) for step, change in self.pairs]

    def direction(self, slopes: Tensor, scaling: _Scaling) -> Tensor:
        """Return H⁻¹ g."""
        left, shares = slopes.clone(), list[Tensor]()
        for step, change in reversed(self.pairs):
            shares.append((step * left).sum() / (step * change).sum())
            left -= shares[-1] * change
        found = scaling(left)
        if self.pairs:
            step, change = self.pairs[-1]
            found *= (step * change).sum() / (change * scaling(change)).sum()
        for (step, change), share in zip(self.pairs, reversed(shares), strict=True):
            found += step * (share - (change * found).sum() / (step * change).sum())
        return found


def solve_path(task: Task, theta: Tensor, strengths: Sequence[float], tolerance: float) -> list[Linear]:
    """Solve from the strongest penalty to the weakest, each from the extrapolation of the last two solutions."""
    pairs, penalty = _Pairs(), torch.zeros_like(theta[0])
    solved: dict[float, Linear] = {}
    before: list[tuple[float, Tensor]] = []  # log of the strength, and the solution
    for strength in sorted(set(strengths), reverse=True):
        fresh = torch.full_like(penalty, strength)
        fresh[-1] = 0.0
        pairs.move(fresh - penalty)
        penalty, position = fresh, math.log(strength)
        loss, slopes = task(theta, penalty)
        if len(before) == 2:
            (far, first), (near, second) = before
            guess = second + (second - first) * ((position - near) / (near - far))
            guessed = task(guess, penalty)
            if guessed[0] < loss:
                theta, (loss, slopes) = guess, guessed
        theta, loss, reached = _descend(task, theta, loss, slopes, penalty, pairs, tolerance)
        before = [*before[-1:], (position, theta)]
        solved[strength] = task.axes.linear(theta, loss, strength, reached)
    return [solved[strength] for strength in strengths]


def _descend(
    task: Task, theta: Tensor, loss: float, slopes: Tensor, penalty: Tensor, pairs: _Pairs, tolerance: float
) -> tuple[Tensor, float, bool]:
    """Return the optimum, its objective, and whether it is one: rounding may hide further progress."""
    scaling, idle = _Scaling(task, penalty), 0
    for _ in range(_STEPS):
        direction = pairs.direction(slopes, scaling)
        if 0.5 * float((slopes * direction).sum()) <= tolerance * loss:
            return theta, loss, True
        step, found, turned = _search(task, theta, -direction, loss, slopes, penalty)
        idle = 0 if found < loss else idle + 1
        if idle == 3:
            break
        pairs.add(step, turned - slopes)
        theta, loss, slopes = theta + step, found, turned
    return theta, loss, False


def _search(
    task: Task, theta: Tensor, direction: Tensor, loss: float, slopes: Tensor, penalty: Tensor
) -> tuple[Tensor, float, Tensor]:
    """Return a step along the direction after which the slope is small, found by slopes alone, as the loss is convex.

    Near the optimum losses differ by less than their rounding; slopes do not.
    """
    begin = float((slopes * direction).sum())
    low, high, size = 0.0, math.inf, 1.0
    slope_low, slope_high = begin, math.inf
    step, found, turned = direction, loss, slopes
    for _ in range(_TRIES):
        step = size * direction
        found, turned = task(theta + step, penalty)
        slope = float((turned * direction).sum())
        if not slope <= -0.5 * begin:  # too far, or NaN
            high, slope_high = size, slope
        elif slope < 0.9 * begin:
            low, slope_low = size, slope
        else:
            break
        if math.isinf(high):
            size = 2 * low
        else:
            share = -slope_low / (slope_high - slope_low) if math.isfinite(slope_high) else 0.1
            size = low + (high - low) * min(max(share, 0.1), 0.9)
    return step, found, turned
