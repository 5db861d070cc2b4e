"""What a step that was taken again is made of, for its page and for the terminal."""

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gemel.data.plan import Batch


class Size(NamedTuple):
    """How large the numbers of a tensor are."""

    name: str
    """of a parameter, or of the module whose output it is"""
    numbers: int
    norm: float
    """of its finite numbers"""
    largest: float
    """absolute value of its finite numbers"""
    not_finite: int
    """NaN and infinite numbers"""


class Replay(NamedTuple):
    """A step of a run, taken again."""

    step: int
    """of all stages, counted from 1 as in metrics.csv"""
    stage: str
    epoch: int
    """from 0"""
    start: int
    """steps done where the replay started: a checkpoint's, or 0"""
    is_exact: bool
    """whether the weights are those of the run at that step, and not a checkpoint's of another step"""
    terms: dict[str, float]
    recorded: dict[str, float]
    """the same terms in metrics.csv; empty where the step has no row"""
    lr: float
    outputs: list[Size]
    """of the network's modules, in the order of the forward pass"""
    gradients: list[Size]
    """of the parameters, before clipping"""
    batch: "Batch"
    """uint8 views (B, 3, H, W), or vectors (B, d), on the CPU"""
    paths: list[str]
    """of the batch's images"""
    rejected: dict[str, str]
    """reasons by path of images that could not be read, and gave way to others"""

    @property
    def first_not_finite(self) -> str:
        """Where NaN or infinite numbers appear first: an output, a loss term, else a gradient; empty: nowhere."""
        outputs = [f"the output of {one.name}" for one in self.outputs if one.not_finite]
        terms = [f"the term {name}" for name, value in self.terms.items() if not math.isfinite(value)]
        gradients = [f"the gradient of {one.name}" for one in reversed(self.gradients) if one.not_finite]
        return next(iter([*outputs, *terms, *gradients]), "")
