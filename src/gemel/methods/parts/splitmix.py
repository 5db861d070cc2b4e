"""SplitMix64: numbers that look random and follow from a seed and a counter, on any device, without a generator."""

import torch
from torch import Tensor

# its constants as signed numbers: torch's 64-bit products wrap around as its unsigned ones do
_STEP, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def drawn(seed: Tensor, rows: Tensor, columns: int, bound: int) -> Tensor:
    """Return integers in [0, bound) for each row's number, (n, columns), the same wherever the row is.

    Args:
        seed: 0-d, int64.
        rows: (n,), int64, at least 0.
        columns: numbers of a row.
        bound: above 0; its share of 2⁵³ is all that the numbers are uneven by.
    """
    counter = rows[:, None] * columns + torch.arange(columns, device=rows.device)
    return _shifted(_mixed(_mixed(seed) + counter * _STEP), 11) % bound


def _mixed(bits: Tensor) -> Tensor:
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        bits = (bits ^ _shifted(bits, shift)) * factor
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Return a shift to the right that fills in zeros; torch's fills in the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)
