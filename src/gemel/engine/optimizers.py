"""LARS in its two flavours, and optimisers from their descriptions."""

# torch._foreach_* is what torch's own optimisers step with; it has no public name.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from gemel.methods.base import Group
from gemel.settings.recipes import LarsOptimizer, SgdOptimizer
from gemel.settings.recipes import Optimizer as Description

AT_A_TIME = 2**25
"""numbers in one fused call, unless a tensor alone has more: a ResNet-50 is one call, a wide projector a few"""


class Lars(Optimizer):
    r"""Layer-wise adaptive rate scaling in two flavours, which are not interchangeable.

    With d = g + βw: L1 (Barlow Twins, VICReg, BYOL, MoCo v3): q = η|w| / |d|, or 1 where a norm is 0;
    m ← μm + q d, w ← w - γm. L2 (TWIST): q = η|w| / (|g| + β|w|), so a zero matrix stays zero; m ← μm + γ q d,
    w ← w - m: the rate stands inside the momentum. Source: the released codes of arXiv 2103.03230 and 2110.07402.

    Args:
        groups: parameters, or groups of them; a group with adapt=False takes no trust ratio (q = 1), and may have
            its own lr and weight_decay.
        lr: γ.
        momentum: μ.
        weight_decay: β.
        trust: η.
        flavour: L1 or L2.

    Raises:
        ValueError: a number is out of its range, or the flavour is unknown.
    """

    def __init__(
        self,
        groups: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        flavour: Literal["L1", "L2"] = "L1",
    ) -> None:
        if flavour not in ("L1", "L2"):
            raise ValueError(f"flavour must be L1 or L2, not {flavour!r}")
        for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay), ("trust", trust)):
            if not value >= 0:
                raise ValueError(f"{name} must be at least 0, not {value}")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "flavour": flavour,
            "adapt": True,
        }
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; `closure` re-evaluates the loss and its gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameters in _parts([one for one in group["params"] if one.grad is not None]):
                self._step_part(group, parameters)
        return loss

    def _step_part(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients = [one.grad for one in parameters if one.grad is not None]
        for one in parameters:
            if "momentum" not in self.state[one]:
                self.state[one]["momentum"] = torch.zeros_like(one)
        momenta: list[Tensor] = [self.state[one]["momentum"] for one in parameters]
        decay: float = group["weight_decay"]
        # foreach: a handful of fused calls in place of several for each of the network's tensors
        update = list(torch._foreach_add(gradients, parameters, alpha=decay)) if decay else gradients
        if group["adapt"]:
            ratios = _trust_ratios(group, parameters, gradients, update)
            if decay:
                torch._foreach_mul_(update, ratios)
            else:
                update = list(torch._foreach_mul(update, ratios))
        inside = group["lr"] if group["flavour"] == "L2" else 1.0
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, update, alpha=inside)
        torch._foreach_add_(parameters, momenta, alpha=-1.0 if group["flavour"] == "L2" else -group["lr"])


def _parts(parameters: Sequence[Tensor]) -> Generator[list[Tensor]]:
    """Cut a list so that what a step sets aside stays small beside the parameters."""
    part: list[Tensor] = []
    for one in parameters:
        if part and sum(map(Tensor.numel, part)) + one.numel() > AT_A_TIME:
            yield part
            part = []
        part.append(one)
    if part:
        yield part


def _trust_ratios(
    group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor], update: list[Tensor]
) -> list[Tensor]:
    weights = torch.stack(torch._foreach_norm(parameters))
    if group["flavour"] == "L1":
        steps = torch.stack(torch._foreach_norm(update))
        ratios = torch.where((weights > 0) & (steps > 0), group["trust"] * weights / steps, 1.0)
    else:
        steps = torch.stack(torch._foreach_norm(gradients)) + group["weight_decay"] * weights
        ratios = torch.where(steps > 0, group["trust"] * weights / steps, 0.0)
    return list(ratios.unbind())


def build(description: Description, groups: Sequence[Group]) -> Optimizer:
    """The optimiser of a description; every group keeps its highest rate at a batch of 256 in `base_lr`."""
    rows: list[dict[str, Any]] = []
    for group in groups:
        lr, decay = description.lr, description.weight_decay
        row: dict[str, Any] = {"params": group.parameters}
        if not group.decay:
            decay = 0.0
            if isinstance(description, LarsOptimizer):
                row["adapt"] = False
                lr = lr if description.bias_lr is None else description.bias_lr
        rows.append(row | {"lr": lr, "base_lr": lr, "weight_decay": decay, "decays": group.decay})
    if isinstance(description, LarsOptimizer):
        return Lars(
            rows, description.lr, momentum=description.momentum, trust=description.trust, flavour=description.flavour
        )
    if isinstance(description, SgdOptimizer):
        return SGD(rows, description.lr, momentum=description.momentum)
    return AdamW(rows, description.lr, betas=description.betas)


def carry_over(before: Optimizer, after: Optimizer) -> None:
    """Momenta and the like go on from one stage's optimiser to the next one's, if both are of one kind."""
    if type(before) is type(after):
        after.state.update(before.state)
