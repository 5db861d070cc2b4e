"""Products of rows with entries of a memory drawn for each, without a copy of all the entries at once."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from gemel.methods.parts.precision import exact_products, pieces


def sampled_products(rows: Tensor, memory: Tensor, draws: Tensor) -> Tensor:
    """Return <f_i, m_{draws_ik}>, (n, K), differentiable in the rows.

    Args:
        rows: f, (n, D), in float32 or wider.
        memory: m, (N, D), without gradient.
        draws: indices of the memory for each row, (n, K).
    """
    return cast(Tensor, _Sampled.apply(rows, memory, draws))


class _Sampled(Function):
    """Gathers the drawn entries piece by piece, in the backward again."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, memory: Tensor, draws: Tensor) -> Tensor:
        ctx.save_for_backward(memory, draws)
        found = rows.new_empty(draws.shape)
        for part in _parts(draws, memory):
            with exact_products(rows.device):
                found[part] = torch.bmm(memory[draws[part]], rows[part, :, None])[..., 0]
        return found

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        memory, draws = ctx.saved_tensors
        found = grads[0].new_empty(len(draws), memory.shape[1])
        for part in _parts(draws, memory):
            with exact_products(memory.device):
                found[part] = torch.bmm(grads[0][part, None], memory[draws[part]])[:, 0]
        return found, None, None


def _parts(draws: Tensor, memory: Tensor) -> Any:
    return pieces(len(draws), draws.shape[1] * memory.shape[1] * memory.element_size(), memory.device)
