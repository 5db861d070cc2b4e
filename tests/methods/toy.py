"""The toy network of the golden numbers, and whole training steps on it, as the engine takes them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from gemel.backbones.base import Backbone
from gemel.data.plan import Batch
from gemel.engine import optimizers
from gemel.methods.base import Method
from gemel.settings.recipes import Optimizer

Golden = Mapping[str, Tensor]
PRECISIONS = [(torch.float64, 1e-9), (torch.float32, 1e-5)]
"""and how near the golden numbers are met"""

OWN = {"backbone.network.lin.": "lin.", "backbone.network.bn.": "bn."}
"""our names of the toy backbone, and the authors'"""


class Given(nn.Module):
    """A backbone whose images are features already."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        return images


class Net(nn.Module):
    """Flatten to 12, linear without bias, batch norm, ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.lin, self.bn = nn.Linear(12, 20, bias=False), nn.BatchNorm1d(20)

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.bn(self.lin(adaptive_avg_pool2d(images, 2).flatten(1))))


def backbone() -> Backbone:
    return Backbone(Net(), 20)


def near(found: Any, golden: Tensor, tolerance: float, name: str = "") -> None:
    """By the norm."""
    found = torch.as_tensor(found).detach().double()
    assert found.shape == golden.shape, f"{name}: {tuple(found.shape)}, not {tuple(golden.shape)}"
    error = float((found - golden.double()).norm() / golden.double().norm().clamp_min(1e-30))
    assert error <= tolerance, f"{name} is off by {error:.2g}"


def given(golden: Golden, prefix: str, names: str, dtype: torch.dtype) -> list[Tensor]:
    """Copies of inputs, which take gradients."""
    return [golden[f"{prefix}.{name}"].to(dtype, copy=True).requires_grad_() for name in names.split()]


def check_directions(
    loss: Callable[..., Mapping[str, Tensor]],
    golden: Golden,
    prefix: str,
    names: str,
    terms: Mapping[str, str],
    dtype: torch.dtype,
    tolerance: float,
    *,
    case: str = "",
) -> None:
    """Compare a loss of two directions, and its gradients by the first two of four inputs; the others take none.

    Args:
        loss: of the four inputs.
        golden: numbers; inputs are `prefix.name`, terms and gradients `prefix.name`, or `prefix.case.name`.
        names: of the inputs.
        terms: our name of a term -> the authors'.
    """
    rows, numbers = given(golden, prefix, names, dtype), f"{prefix}.{case}." if case else f"{prefix}."
    found = loss(*rows)
    found["loss"].backward()
    for name, key in terms.items():
        near(found[name], golden[f"{numbers}{key}"], tolerance, key)
    for row, name in zip(rows[:2], names.split(), strict=False):
        near(row.grad, golden[f"{numbers}grad_{name}"], tolerance)
    assert rows[2].grad is rows[3].grad is None


def load(module: nn.Module, golden: Golden, prefix: str, names: Mapping[str, str]) -> None:
    """Set parameters from golden numbers; each of `prefix` must be taken.

    Args:
        names: beginning of our names -> of the authors'; the longest that fits is taken.
    """
    own, taken = dict(module.named_parameters()), set[str]()
    for name, parameter in own.items():
        key = f"{prefix}.{theirs(name, names)}"
        if key in golden:
            parameter.data.copy_(golden[key])
            taken.add(key)
    left = {key for key in golden if key.startswith(f"{prefix}.")} - taken
    assert left == set(), f"not taken: {sorted(left)}"


def check(module: nn.Module, golden: Golden, prefix: str, names: Mapping[str, str], tolerance: float) -> None:
    """Compare parameters and buffers with golden numbers; each of `prefix` must be compared."""
    found = {f"{prefix}.{theirs(name, names)}": value for name, value in module.state_dict().items()}
    wanted = {key: value for key, value in golden.items() if key.startswith(f"{prefix}.")}
    assert wanted.keys() <= found.keys(), f"not found: {sorted(wanted.keys() - found.keys())}"
    assert wanted
    for key, value in wanted.items():
        near(found[key], value, tolerance, key)


def theirs(name: str, names: Mapping[str, str]) -> str:
    beginnings = [one for one in names if name.startswith(one)]
    best = max(beginnings, key=len, default="")
    return names.get(best, "") + name.removeprefix(best)


def batches(images: Tensor) -> Iterator[Batch]:
    """Of images (steps, view, n, 3, H, W)."""
    for step in images:
        count = step.shape[1]
        yield Batch(list(step), torch.arange(count), torch.full((count,), -1))


def train(
    method: Method,
    description: Optimizer,
    data: Sequence[Batch],
    rates: Sequence[float | Sequence[float]],
    *,
    before: Callable[[int, torch.optim.Optimizer], None] = lambda step, optimizer: None,
) -> list[Tensor]:
    """Take a step for each batch with its rate, or one for each group; return the losses.

    Args:
        before: called before each step, to set what else changes.
    """
    optimizer = optimizers.build(description, method.parameter_groups())
    losses: list[Tensor] = []
    for step, (batch, rate) in enumerate(zip(data, rates, strict=True)):
        progress = step / len(data)
        before(step, optimizer)
        terms = method(batch, progress)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizers.drop_gradients_before_start(optimizer, progress)
        optimizers.clip_gradients(optimizer, description)
        by_group = rate if isinstance(rate, Sequence) else [rate] * len(optimizer.param_groups)
        for group, one in zip(optimizer.param_groups, by_group, strict=True):
            group["lr"] = one
        optimizer.step()
        method.after_step(progress)
        losses.append(terms["loss"].detach())
    return losses
