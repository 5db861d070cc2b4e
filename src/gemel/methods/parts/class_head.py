"""TWIST's class head, and what it logs of itself."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from gemel.distributed import world_size
from gemel.methods.parts.bunch_norm import BunchNorm
from gemel.methods.parts.heads import mlp

HeadStyle = Literal["convolutional", "transformer"]


class ClassHead(nn.Module):
    """Linear-BN-act-Linear-BN-act-Linear, and a batch norm without scale and shift before the softmax (NBS).

    Args:
        widths: of the input, of the hidden layers, and the number of classes.
        norm: whether there is one; without it the diversity term can hardly be optimised (TWIST's Table 7).
        bunch: images that share its statistics; none: the global batch.
        style: convolutional: ReLU, PyTorch's initial weights; transformer: GELU, standard deviation 0.02.
    """

    def __init__(
        self, *widths: int, norm: bool = True, bunch: int | None = None, style: HeadStyle = "convolutional"
    ) -> None:
        super().__init__()
        self.layers = mlp(*widths, activation="relu" if style == "convolutional" else "gelu")
        self.norm = BunchNorm(widths[-1], bunch=bunch) if norm else None
        if style == "transformer":
            for layer in self.layers:
                if isinstance(layer, nn.Linear):
                    nn.init.trunc_normal_(layer.weight, std=0.02)
                    nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, views: int = 1) -> tuple[Tensor, Tensor]:
        """Return logits (V·B, C) before and after the batch norm, of features (V·B, d), view by view."""
        before = self.layers(features)
        return before, before if self.norm is None else self.norm(before, views)


def observed(loss: Tensor, logits: Sequence[tuple[Tensor, Tensor]], best: Tensor) -> dict[str, Tensor]:
    """Return what is logged of the best head around its last batch norm, without waiting for the device.

    std_columns_*, std_rows_*: standard deviations by column and by row of its logits, mean (TWIST's Table 7);
    gradient_*: mean |∂L/∂logits|, L the head's own loss (Table 8), 0 until the backward has passed.

    Args:
        loss: mean of the heads' losses; the backward starts from it at whatever scale the precision asks for.
        logits: of each head, before and after the batch norm, (V·B, C), this process's rows.
        best: index of the head, 0-d.
    """
    found: dict[str, Tensor] = {}
    for place, heads in zip(("before", "after"), zip(*logits, strict=True), strict=True):
        chosen = heads[0] if len(heads) == 1 else torch.stack(heads).index_select(0, best[None])[0]
        for name, axis in (("columns", 0), ("rows", 1)):
            found[f"std_{name}_{place}"] = chosen.detach().float().std(axis, correction=0).mean()
    for place, heads in zip(("before", "after"), zip(*logits, strict=True), strict=True):
        found[f"gradient_{place}"] = _gradient_size(loss, heads, best)
    return found


def _gradient_size(loss: Tensor, heads: Sequence[Tensor], best: Tensor) -> Tensor:
    size, scale = loss.new_zeros(()), loss.new_ones(())

    def scaled(gradient: Tensor) -> None:
        scale.copy_(gradient)

    def arrived(gradient: Tensor, head: int) -> None:
        found = gradient.float().abs().mean() * (len(heads) / world_size()) / scale
        found = found.nan_to_num(0.0, 0.0)  # half precision skips a step whose gradient overflows
        size.copy_(torch.where(best == head, found, size))

    if loss.requires_grad:
        loss.register_hook(scaled)
        for head, one in enumerate(heads):
            one.register_hook(partial(arrived, head=head))
    return size
