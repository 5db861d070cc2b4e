"""Descriptions of optimisers and of their rates."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from gemel.settings.description import Description, Probability, Share


class _Optimizer(Description):
    warmup_epochs: NonNegativeFloat = 10.0
    """epochs during which the rate rises; at most `warmup_share` of the run"""
    warmup_share: Share = 0.1
    """largest share of the run during which the rate rises"""
    warmup_start: Probability = 0.0
    """rate at the first step of the warm-up, as a share of the highest"""
    warmup_inclusive: bool = False
    """whether the warm-up's last step has the highest rate already, as with linspace; else the step after it"""
    final: Probability = 1e-3
    """rate at the end, as a share of the highest; half a cosine leads there; 1: constant after the warm-up"""
    milestones: tuple[Probability, ...] = ()
    """shares of the run at which the rate is multiplied by `factor`; there is no cosine then"""
    factor: PositiveFloat = 0.1
    """what the rate is multiplied by at each milestone"""
    rate_by: Literal["step", "epoch"] = "step"
    """whether the rate changes at every step, or only when an epoch begins"""
    final_decay: NonNegativeFloat | None = None
    """weight decay at the end, half a cosine leads there; none: constant"""
    clip: PositiveFloat | None = None
    """largest norm of the whole gradient; a larger one is scaled down; none: no limit"""
    clip_each: PositiveFloat | None = None
    """largest norm of each tensor's own gradient (DINO); a larger one is scaled down; none: no limit"""


class LarsOptimizer(_Optimizer):
    """LARS, layer-wise scaled SGD (arXiv 1708.03888), in the flavours of five released codes."""

    name: Literal["lars"] = "lars"
    lr: PositiveFloat = 0.2
    """rate at a batch of 256; the rate used is lr · batch_size / 256"""
    bias_lr: PositiveFloat | None = None
    """the same for biases and norms; none: as lr"""
    weight_decay: NonNegativeFloat = 1e-6
    """decay of matrices and kernels; biases and norms do not decay"""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """share of the momentum that is kept"""
    trust: PositiveFloat = 1e-3
    """trust coefficient η"""
    flavour: Literal["L1", "L2", "L3", "L4", "L5"] = "L1"
    """L1: η|w| / |g + βw|, of Barlow Twins; L2: η|w| / (|g| + β|w|), TWIST; L3: SimCLR; L4: SwAV; L5: solo-learn"""


class _Adam(_Optimizer):
    lr: PositiveFloat = 1e-3
    """rate at a batch of 256; the rate used is lr · batch_size / 256"""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """decay of the means of gradient and of squared gradient"""


class AdamWOptimizer(_Adam):
    """AdamW, Adam with decoupled weight decay (arXiv 1711.05101)."""

    name: Literal["adamw"] = "adamw"
    weight_decay: NonNegativeFloat = 0.05
    """decay of matrices and kernels; biases and norms do not decay"""


class AdamOptimizer(_Adam):
    """Adam (arXiv 1412.6980); its weight decay is added to the gradient (L2)."""

    name: Literal["adam"] = "adam"
    weight_decay: NonNegativeFloat = 1e-6
    """decay of matrices and kernels; biases and norms do not decay"""


class SgdOptimizer(_Optimizer):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    lr: PositiveFloat = 0.03
    """rate at a batch of 256; the rate used is lr · batch_size / 256"""
    weight_decay: NonNegativeFloat = 1e-4
    """decay of matrices and kernels; biases and norms do not decay"""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """share of the momentum that is kept"""


Optimizer = LarsOptimizer | AdamWOptimizer | AdamOptimizer | SgdOptimizer

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "lars": LarsOptimizer,
    "adamw": AdamWOptimizer,
    "adam": AdamOptimizer,
    "sgd": SgdOptimizer,
}
