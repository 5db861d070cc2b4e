"""Rows of numbers that metrics are given: their shape checked, in float64 where the device has it."""

import torch
from torch import Tensor

from gemel.errors import UserError


def checked_rows(values: Tensor) -> Tensor:
    """(rows, width) in float64, without a graph: rounding must not look like a difference between features.

    Raises:
        UserError: another shape, or empty.
    """
    if values.ndim != 2 or not values.numel():
        raise UserError(f"a tensor of shape {tuple(values.shape)}; give (rows, width), at least one of each")
    return values.detach().to(torch.float32 if values.device.type == "mps" else torch.float64)


def check_same_shape(one: Tensor, two: Tensor) -> None:
    """Raises UserError unless the shapes are the same."""
    if one.shape != two.shape:
        raise UserError(f"tensors of shapes {tuple(one.shape)} and {tuple(two.shape)}; give two views of the same rows")
