"""Random unit vectors that are computed from (seed, row) whenever they are needed: no table of them is kept."""

from math import pi

import torch
from torch import Tensor
from torch.nn.functional import normalize

# SplitMix64's constants, as signed numbers: torch's 64-bit products wrap around as its unsigned ones do
_STEP, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def fixed_codes(seed: Tensor, rows: Tensor, width: int) -> Tensor:
    """Return one unit vector for each row's number, (n, width), uniform on the sphere; no device waits.

    The numbers are those of SplitMix64 at counter row · width + column, made normal by Box and Muller. Two seeds give
    vectors that have nothing to do with each other.

    Args:
        seed: 0-d, int64.
        rows: (n,), int64, at least 0.
        width: D.
    """
    pairs = (width + 1) // 2
    counter = rows[:, None] * (2 * pairs) + torch.arange(2 * pairs, device=rows.device)  # (n, 2 pairs)
    bits = _mixed(_mixed(seed) + counter * _STEP)
    one, two = _uniform(bits).chunk(2, dim=1)
    radius, angle = (-2 * one.log()).sqrt(), 2 * pi * two
    return normalize(torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)[:, :width]).float()


def _mixed(bits: Tensor) -> Tensor:
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        bits = (bits ^ _shifted(bits, shift)) * factor
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, by: int) -> Tensor:
    """Return a shift to the right that fills in zeros; torch's fills in the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _uniform(bits: Tensor) -> Tensor:
    """Return numbers in (0, 1], of 53 bits."""
    return (_shifted(bits, 11) + 1).double() * 2.0**-53
