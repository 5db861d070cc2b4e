"""Whether a run's numbers are finite: noted on the device at every step, read where something is waited for anyway."""

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from gemel.engine.processes import flags_of_all
from gemel.errors import Diverged

# torch._foreach_* is what torch's own optimisers step with; it has no public name.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

ADVICE = "try a smaller --optimizer.lr or --precision 32"


class Finite:
    """The first step at which each term was NaN or infinite."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._first: Tensor | None = None

    def note(self, terms: Mapping[str, Tensor], step: int) -> None:
        """Note the terms of a step, scalars on the device; nothing is waited for."""
        values = torch.stack([value.float() for value in terms.values()])
        if self._first is None or len(self._names) != len(values):
            self._names, self._first = list(terms), torch.zeros(len(values), device=values.device)
        self._first = torch.where((self._first == 0) & ~values.isfinite(), float(step), self._first)

    def check(self, run: str, batch: Callable[[], str], advice: Callable[[int], str] = lambda step: ADVICE) -> None:
        """Read what was noted.

        Args:
            run: named in the message.
            batch: names the current step's batch.
            advice: returns what to try after a divergence at a step.

        Raises:
            Diverged: a term was not finite; on the same step on every process, as terms are of the global batch.
        """
        first = [] if self._first is None else cast(list[float], self._first.tolist())
        broken = {name: int(step) for name, step in zip(self._names, first, strict=False) if step}
        if broken:
            step = min(broken.values())
            names = ", ".join(name for name, when in broken.items() if when == step)
            raise Diverged(
                f"{names} became NaN or infinite at step {step} ({batch()}); nothing of that step is kept in {run}; "
                f"{advice(step)}"
            )


def check_weights(network: nn.Module, run: str, step: int, advice: str = ADVICE) -> None:
    """Prove that parameters and buffers are finite before a checkpoint replaces a good one.

    Raises:
        Diverged: they are not, on some process.
    """
    tensors = [one for one in network.state_dict().values() if one.is_floating_point() and one.numel()]
    largest = torch.stack([one.float() for one in torch._foreach_norm(tensors, torch.inf)]) if tensors else None
    broken = largest is not None and not bool(largest.isfinite().all())
    if flags_of_all(broken)[0]:
        names = [name for name, value in network.state_dict().items() if not bool(value.isfinite().all())]
        raise Diverged(
            f"the weights became NaN or infinite by step {step} ({', '.join(names[:3])}); the last good checkpoint of "
            f"{run} is kept; {advice}"
        )
