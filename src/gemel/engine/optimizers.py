"""LARS in its five flavours, optimisers from their descriptions, and what a step does around them."""

# torch._foreach_* is what torch's own optimisers step with; it has no public name.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam, AdamW, Optimizer

from gemel.device import device
from gemel.methods.base import Group
from gemel.schedules import cosine, warmup_cosine
from gemel.schedules import steps as stairs
from gemel.settings.recipes import AdamOptimizer, LarsOptimizer, SgdOptimizer
from gemel.settings.recipes import Optimizer as Description

Flavour = Literal["L1", "L2", "L3", "L4", "L5"]

AT_A_TIME = 2**25
"""numbers in one fused call, unless a tensor alone has more: a ResNet-50 is one call, a wide projector a few"""


class Lars(Optimizer):
    r"""Layer-wise adaptive rate scaling in five flavours, which are not interchangeable.

    With d = g + βw, a trust ratio q, and the learning rate γ outside or inside the momentum:

        outside: m ← μm + q d, w ← w - γm      inside: m ← μm + γ q d, w ← w - m

    L1 (Barlow Twins, VICReg, BYOL, MoCo v3): q = η|w| / |d|, or 1 where a norm is 0; outside.
    L2 (TWIST): q = η|w| / (|g| + β|w|), so a zero matrix stays zero; inside.
    L3 (SimCLR): q as in L1; inside.
    L4 (apex's LARC without clipping, as in SwAV): q = η|w| / (|g| + β|w| + 1e-8); outside. Where |w| or |g| is 0
    neither ratio nor decay: m takes the raw gradient.
    L5 (solo-learn with clip_lr): as L4 with min(q / γ, 1) for q, and 1 at a rate of 0.

    Source: the released codes. Biases and norms belong in a group with adapt=False, but in SwAV's LARC.

    Args:
        groups: parameters, or groups of them; a group with adapt=False takes no trust ratio (q = 1), and may have
            its own lr and weight_decay.
        lr: γ, at least 0.
        momentum: μ, at least 0.
        weight_decay: β, at least 0.
        trust: η, at least 0.
        flavour: L1 to L5.

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
        flavour: Flavour = "L1",
    ) -> None:
        if flavour not in get_args(Flavour):
            raise ValueError(f"flavour must be one of {', '.join(get_args(Flavour))}, not {flavour!r}")
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
        """Take one step; `closure` re-evaluates the loss and its gradients."""
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
        inside, outside = (group["lr"], 1.0) if group["flavour"] in ("L2", "L3") else (1.0, group["lr"])
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, update, alpha=inside)
        torch._foreach_add_(parameters, momenta, alpha=-outside)


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
    """Return q of each parameter, where `update` is g + βw."""
    flavour, trust, lr = group["flavour"], group["trust"], group["lr"]
    weights = torch.stack(torch._foreach_norm(parameters))
    if flavour in ("L1", "L3"):
        steps = torch.stack(torch._foreach_norm(update))
        return list(torch.where((weights > 0) & (steps > 0), trust * weights / steps, 1.0).unbind())
    slopes = torch.stack(torch._foreach_norm(gradients))
    steps = slopes + group["weight_decay"] * weights
    if flavour == "L2":
        return list(torch.where(steps > 0, trust * weights / steps, 0.0).unbind())
    ratios = trust * weights / (steps + 1e-8)
    if flavour == "L5":
        ratios = (ratios / lr).clamp(max=1.0) if lr else torch.ones_like(ratios)
    # the raw gradient where a norm is 0: g + βw is g where w is 0, and is to count as 0 where g is
    return list(torch.where(weights > 0, ratios * (slopes > 0), 1.0).unbind())


def build(description: Description, groups: Sequence[Group]) -> Optimizer:
    """Return the optimiser of a description over a method's groups of parameters.

    Each of its `param_groups` keeps, beside torch's own entries, the highest learning rate at a batch of 256
    (`base_lr`), and the group's `decays`, `schedule` and `starts`: what `set_rates` and
    `drop_gradients_before_start` look at.
    """
    rows: list[dict[str, Any]] = []
    for group in groups:
        lr, adapt = description.lr, {}
        if isinstance(description, LarsOptimizer):
            adapt = {"adapt": group.decay}
            lr = lr if group.decay or description.bias_lr is None else description.bias_lr
        rows.append(
            {"params": group.parameters, "lr": lr * group.rate, "base_lr": lr * group.rate, "decays": group.decay}
            | {"weight_decay": description.weight_decay if group.decay else 0.0}
            | {"schedule": group.schedule, "starts": group.starts, **adapt}
            | ({} if group.momentum is None else {"momentum": group.momentum})
        )
    if isinstance(description, LarsOptimizer):
        return Lars(
            rows, description.lr, momentum=description.momentum, trust=description.trust, flavour=description.flavour
        )
    if isinstance(description, SgdOptimizer):
        return SGD(rows, description.lr, momentum=description.momentum)
    kind = Adam if isinstance(description, AdamOptimizer) else AdamW
    # one pass over a tensor's numbers in place of ten: a quarter of the time on a CPU
    return kind(rows, description.lr, betas=description.betas, fused=device().type == "cpu" or None)


def set_rates(
    optimizer: Optimizer,
    description: Description,
    progress: float,
    *,
    batch_size: int,
    steps: int,
    epochs: int,
    warmup: float | None = None,
) -> None:
    """Set the learning rate and the weight decay of every group for the step that comes next.

    Args:
        optimizer: as `build` returns it.
        description: what it was built of.
        progress: steps done / `steps`, in [0, 1).
        batch_size: over all processes; the rate is base_lr · batch_size / 256 · the schedule's factor.
        steps: of the stage.
        epochs: of the stage.
        warmup: share of the steps that warm up; None: `description.warmup_epochs`, at most `warmup_share`.
    """
    if warmup is None:
        warmup = min(description.warmup_epochs / epochs, description.warmup_share)
    at = progress if description.rate_by == "step" else round(progress * steps) * epochs // steps / epochs
    factor = stairs(at, description.milestones, description.factor) * warmup_cosine(
        at,
        warmup=warmup,
        final=1.0 if description.milestones else description.final,
        start=description.warmup_start,
        peak=warmup - description.warmup_inclusive / steps,
    )
    for group in optimizer.param_groups:
        constant = group["schedule"] == "constant"
        group["lr"] = group["base_lr"] * batch_size / 256 * (1.0 if constant else factor)
        if description.final_decay is not None and group["decays"]:
            group["weight_decay"] = cosine(progress, description.weight_decay, description.final_decay)


def drop_gradients_before_start(optimizer: Optimizer, progress: float) -> None:
    """Set the gradients of groups that start later to None: the optimiser then leaves parameters and state alone."""
    for group in optimizer.param_groups:
        if progress < group["starts"]:
            for parameter in group["params"]:
                parameter.grad = None


@torch.no_grad()
def clip_gradients(optimizer: Optimizer, description: Description) -> None:
    """Scale gradients down to the description's limits: tensor by tensor, g · min(1, c / (|g| + 1e-6)), then all."""
    parameters = [one for group in optimizer.param_groups for one in group["params"] if one.grad is not None]
    if description.clip_each is not None and parameters:
        gradients = [cast(Tensor, one.grad) for one in parameters]
        norms = torch.stack(torch._foreach_norm(gradients))
        factors = (description.clip_each / (norms + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(gradients, list(factors.unbind()))
    if description.clip is not None:
        clip_grad_norm_(parameters, description.clip)


def forget(optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Drop the state of parameters that were made anew: momenta and the like begin again."""
    for parameter in parameters:
        optimizer.state.pop(parameter, None)


def carry_over(before: Optimizer, after: Optimizer) -> None:
    """Give one stage's state, momenta and the like, to the next stage's optimiser if both are of one kind.

    What learned in the first stage alone leaves none.
    """
    if type(before) is type(after):
        learning = {one for group in after.param_groups for one in group["params"]}
        after.state.update({one: state for one, state in before.state.items() if one in learning})
