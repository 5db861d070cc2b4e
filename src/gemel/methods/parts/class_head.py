"""TWIST's class head, several small ones in one product, and what heads log of themselves."""

from collections.abc import Sequence
from functools import partial
from math import sqrt
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


class ClassHeads(nn.Module):
    """Several heads Linear-BN-ReLU-Linear, or Linear alone, in one product, and the batch norm before the softmax.

    Args:
        width: of the input.
        hidden: width of each head's hidden layer; 0: there is none.
        classes: C.
        heads: H.
        norm: whether there is a norm before the softmax.
        bunch: images that share its statistics; none: the global batch.
    """

    def __init__(
        self, width: int, hidden: int, classes: int, heads: int, *, norm: bool = True, bunch: int | None = None
    ) -> None:
        super().__init__()
        self.heads = heads
        self.first = nn.Linear(width, heads * (hidden or classes))
        self.hidden = nn.Sequential(nn.BatchNorm1d(heads * hidden), nn.ReLU(inplace=True)) if hidden else None
        self.weight = nn.Parameter(torch.empty(heads, hidden, classes)) if hidden else None
        self.bias = nn.Parameter(torch.empty(heads * classes)) if hidden else None
        self.reset_parameters()
        self.norm = BunchNorm(heads * classes, bunch=bunch) if norm else None

    def reset_parameters(self) -> None:
        """Draw the last layers as PyTorch draws linear ones; the modules draw their own."""
        for one in (self.weight, self.bias):
            if one is not None and self.weight is not None:
                nn.init.uniform_(one, -(bound := 1 / sqrt(self.weight.shape[1])), bound)

    def forward(self, features: Tensor, views: int = 1) -> tuple[Tensor, Tensor]:
        """Return logits (V·B, H·C) before and after the batch norm, of features (V·B, d), view by view."""
        before = self.first(features)
        if self.hidden is not None and self.weight is not None and self.bias is not None:
            hidden = self.hidden(before).unflatten(1, (self.heads, -1)).transpose(0, 1)  # (H, V·B, hidden)
            before = (hidden @ self.weight).transpose(0, 1).flatten(1) + self.bias
        return before, before if self.norm is None else self.norm(before, views)


def observed(
    loss: Tensor, before: Sequence[Tensor], after: Sequence[Tensor], best: Tensor, classes: int
) -> dict[str, Tensor]:
    """Return what is logged of the best head around its last batch norm, without waiting for the device.

    std_columns_*, std_rows_*: standard deviations by column and by row of its logits, mean (TWIST's Table 7);
    gradient_*: mean |∂L/∂logits|, L the head's own loss (Table 8), 0 until the backward has passed.

    Args:
        loss: mean of the heads' losses; the backward starts from it at whatever scale the precision asks for.
        before: logits before the batch norm, each (V·B, C) of one or (V·B, H·C) of several heads, this process's rows.
        after: the same after it.
        best: index of the head, 0-d.
        classes: C.
    """
    found: dict[str, Tensor] = {}
    places = {"before": before, "after": after}
    for place, logits in places.items():
        columns = logits[0] if len(logits) == 1 else torch.cat(list(logits), 1)
        chosen = _of_head(columns.detach(), best, classes).float()
        for name, axis in (("columns", 0), ("rows", 1)):
            found[f"std_{name}_{place}"] = chosen.std(axis, correction=0).mean()
    for place, logits in places.items():
        found[f"gradient_{place}"] = _gradient_size(loss, logits, best, classes)
    return found


def _of_head(columns: Tensor, head: Tensor, classes: int) -> Tensor:
    return columns.view(len(columns), -1, classes).index_select(1, head[None]).squeeze(1)


def _gradient_size(loss: Tensor, logits: Sequence[Tensor], best: Tensor, classes: int) -> Tensor:
    size, scale, share = loss.new_zeros(()), loss.new_ones(()), logits[0].shape[1] // classes
    count = len(logits) * share

    def scaled(gradient: Tensor) -> None:
        scale.copy_(gradient)

    def arrived(gradient: Tensor, part: int) -> None:
        own = _of_head(gradient, best % share, classes).float().abs().mean() * (count / world_size()) / scale
        found = own.nan_to_num(0.0, 0.0)  # half precision skips a step whose gradient overflows
        size.copy_(torch.where(best // share == part, found, size))

    if loss.requires_grad:
        loss.register_hook(scaled)
        for part, one in enumerate(logits):
            one.register_hook(partial(arrived, part=part))
    return size
