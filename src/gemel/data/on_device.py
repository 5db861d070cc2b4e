"""Flip, jitter, grey, blur and solarise of a batch of crops, on the device of its tensors; as `photometric.py` of one.

So a worker can leave everything after the resize to a GPU. It is also what is done where numba is missing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gemel.data.photometric import BOXES, BRIGHTNESS, CODES, CONTRAST, HUE, LUMA, SATURATION, blur_weights, steps_of
from gemel.data.views import PhotoDraw


class Finishes(NamedTuple):
    """The draws of a batch of crops as tensors; a NamedTuple, so that loaders pin it and trainers move it."""

    flip: Tensor
    """(B,) bool"""
    codes: Tensor
    """(B, N) steps of the jitter and grey in their order, -1 where there is none"""
    factors: Tensor
    """(B, N) theirs"""
    weights: Tensor
    """(B, K) half boxes of the blur, from the centre outwards"""
    solarize: Tensor
    """(B,) bool"""


def stack(draws: Sequence[PhotoDraw]) -> Finishes:
    """The draws of one view number of several images."""
    steps = [steps_of(draw) for draw in draws]
    kernels = [blur_weights(draw.sigma) for draw in draws]
    codes = np.full((len(draws), max((len(one) for one, _ in steps), default=0)), -1, np.int64)
    factors = np.ones(codes.shape, np.float32)
    weights = np.zeros((len(draws), max((len(one) for one in kernels), default=1)), np.float32)
    for row, ((code, factor), kernel) in enumerate(zip(steps, kernels, strict=True)):
        codes[row, : len(code)], factors[row, : len(code)], weights[row, : len(kernel)] = code, factor, kernel
    return Finishes(
        flip=torch.tensor([draw.flip for draw in draws], dtype=torch.bool),
        codes=torch.from_numpy(codes),
        factors=torch.from_numpy(factors),
        weights=torch.from_numpy(weights),
        solarize=torch.tensor([draw.solarize for draw in draws], dtype=torch.bool),
    )


def finish(crops: Tensor, finishes: Finishes) -> Tensor:
    """Everything that is done to views after their resize.

    Args:
        crops: (B, C, H, W) uint8, C 1 or 3.
        finishes: their draws, on the same device.

    Returns:
        (B, 3, H, W) uint8, within 1 of what the compiled loop gives.
    """
    # Half precision, which training may have switched on here, would be seen in the pixels.
    with torch.no_grad(), torch.autocast(crops.device.type, enabled=False):
        return _finish(crops.to(torch.float32, memory_format=torch.contiguous_format), finishes)


def _finish(values: Tensor, finishes: Finishes) -> Tensor:
    values = torch.where(finishes.flip.view(-1, 1, 1, 1), values.flip(-1), values)
    for codes, factors in zip(finishes.codes.T, finishes.factors.T, strict=True):
        for code in CODES.values():
            chosen = codes == code
            if chosen.any():
                values[chosen] = _step(values[chosen], code, factors[chosen].view(-1, 1, 1, 1))
    values = _blur(values, finishes.weights)
    rounded = (values + 0.5).to(torch.uint8)
    rounded = torch.where(finishes.solarize.view(-1, 1, 1, 1) & (rounded >= 128), 255 - rounded, rounded)
    return rounded.expand(-1, 3, -1, -1).contiguous()


def _step(values: Tensor, code: int, factor: Tensor) -> Tensor:
    if code == BRIGHTNESS:
        return (values * factor).clamp(0, 255)
    if code == CONTRAST:
        mean = _luma(values).mean((1, 2, 3), keepdim=True)
        return (values * factor + (1 - factor) * mean).clamp(0, 255)
    if values.shape[1] == 1:  # one channel has neither saturation nor hue, and is grey
        return values
    if code == SATURATION:
        return (values * factor + (1 - factor) * _luma(values)).clamp(0, 255)
    if code == HUE:
        return _turned(values, 6 * factor)
    return _luma(values).expand_as(values)


def _luma(values: Tensor) -> Tensor:
    if values.shape[1] == 1:
        return values
    red, green, blue = values.split(1, 1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _turned(values: Tensor, turn: Tensor) -> Tensor:
    """The equation stands at `photometric._turn`."""
    red, green, blue = values.split(1, 1)
    value = values.amax(1, keepdim=True)
    chroma = value - values.amin(1, keepdim=True)
    inverse = 1 / torch.where(chroma > 0, chroma, 1.0)
    hue = torch.where(value == green, (blue - red) * inverse + 2, (red - green) * inverse + 4)
    hue = torch.where(value == red, (green - blue) * inverse, hue) + turn
    places = (hue + torch.tensor([5.0, 3.0, 1.0], device=values.device).view(1, 3, 1, 1)) % 6
    return value - chroma * torch.minimum(places, 4 - places).clamp(0, 1)


def _blur(values: Tensor, weights: Tensor) -> Tensor:
    half = weights.shape[1] - 1
    if half == 0:
        return values
    kernels = torch.cat([weights.flip(1), weights[:, 1:]], 1).repeat_interleave(values.shape[1], 0)  # (B C, 2 K - 1)
    # One group of the convolution for each plane: every image has a kernel of its own.
    planes = values.flatten(0, 1)[None]
    for padding, kernel in (
        ((half, half, 0, 0), kernels[:, None, None, :]),
        ((0, 0, half, half), kernels[:, None, :, None]),
    ):
        for _ in range(BOXES):
            padded = functional.pad(planes, padding, mode="replicate")
            planes = functional.conv2d(padded, kernel, groups=len(kernels))
    return planes.view_as(values)
