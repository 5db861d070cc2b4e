"""TWIST's class head, and what it logs of itself."""

from typing import Literal

import torch
from torch import Tensor, nn

from gemel.distributed import world_size
from gemel.methods.parts.bunch_norm import BunchNorm
from gemel.methods.parts.heads import mlp

Form = Literal["convolutional", "transformer"]


class ClassHead(nn.Module):
    """Linear-BN-act-Linear-BN-act-Linear, and a batch norm without scale and shift before the softmax (NBS).

    Args:
        widths: of the input, the hidden layers and the classes.
        norm: whether NBS stands; without it the diversity term can hardly be optimised (TWIST's Table 7).
        bunch: images that share its statistics; none: the global batch.
        form: convolutional: ReLU, PyTorch's first weights; transformer: GELU, weights of standard deviation 0.02.
    """

    def __init__(self, *widths: int, norm: bool = True, bunch: int | None = None, form: Form = "convolutional") -> None:
        super().__init__()
        self.layers = mlp(*widths, activation="relu" if form == "convolutional" else "gelu")
        self.norm = BunchNorm(widths[-1], bunch=bunch) if norm else None
        if form == "transformer":
            for layer in self.layers:
                if isinstance(layer, nn.Linear):
                    nn.init.trunc_normal_(layer.weight, std=0.02)
                    nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, views: int = 1) -> tuple[Tensor, Tensor]:
        """Features (V·B, d), view by view, to logits (V·B, C) before and after the batch norm."""
        before = self.layers(features)
        return before, before if self.norm is None else self.norm(before, views)


def spreads(before: Tensor, after: Tensor) -> dict[str, Tensor]:
    """Standard deviation by column and by row of the logits, before and after the batch norm (TWIST's Table 7)."""
    return {
        f"std_{name}_{place}": logits.detach().float().std(axis, correction=0).mean()
        for place, logits in (("before", before), ("after", after))
        for name, axis in (("columns", 0), ("rows", 1))
    }


def gradient_size(loss: Tensor, logits: Tensor, share: float = 1.0) -> Tensor:
    """Mean |∂loss/∂logits| of this process's rows, as one process would have it; 0 until the backward has passed.

    Args:
        loss: what the backward starts from, at whatever scale the precision asks for.
        logits: before the last batch norm (TWIST's Table 8).
        share: of the loss that these logits have.
    """
    size = torch.zeros((), device=logits.device)
    scale = torch.ones((), device=logits.device)

    def scaled(gradient: Tensor) -> None:
        scale.copy_(gradient)

    def arrived(gradient: Tensor) -> None:
        found = gradient.float().abs().mean() / (scale * share * world_size())
        size.copy_(found.nan_to_num(0.0, 0.0))  # half precision skips a step whose gradient overflows

    if loss.requires_grad and logits.requires_grad:
        loss.register_hook(scaled)
        logits.register_hook(arrived)
    return size
