"""Flip, jitter, grey, blur and solarise of a batch of crops, on the device of its tensors; as `photometric.py` of one.

So a worker can leave everything after the resize to a GPU. It is also what is done where numba is missing. Which steps
occur, and on which images, is known on the CPU when draws are stacked: nothing here waits for the device.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gemel.data.photometric import BOXES, LUMA, blur_weights
from gemel.data.views import PhotoDraw

_SHARES = {"brightness": (0, 0), "contrast": (0, 1), "saturation": (1, 0), "gray": (1, 0)}
"""of a pixel's luma, and of the image's mean luma, in what a step blends into an image"""


class Step(NamedTuple):
    """What one position in the images' orders of steps needs; plain numbers, on whatever device the tensors are."""

    blends: bool
    """any brightness, contrast, saturation or grey"""
    grays: bool
    """any of them but brightness"""
    hues: int
    """images whose hue is turned"""


class Finishes(NamedTuple):
    """The draws of a batch of crops as tensors; a NamedTuple, so that loaders pin it and trainers move it."""

    steps: tuple[Step, ...]
    """of the jitter and grey, N of them"""
    flip: Tensor
    """(B,) bool"""
    blends: Tensor
    """(N, 3, B) factor of the image in each step, then the shares of its luma and of its mean luma in the rest"""
    hued: Tensor
    """(H,) rows of the images whose hue is turned, step by step"""
    turns: Tensor
    """(H,) by which share of the colour circle"""
    blurred: Tensor
    """(b,) rows of the images that are blurred"""
    weights: Tensor
    """(b, K) half boxes of the blur, from the centre outwards"""
    solarize: Tensor
    """(B,) bool"""


def stack(draws: Sequence[PhotoDraw]) -> Finishes:
    """Turn the draws of one view number of several images into tensors."""
    blurred = [row for row, draw in enumerate(draws) if draw.sigma > 0]
    kernels = [blur_weights(draws[row].sigma) for row in blurred]
    weights = np.zeros((len(blurred), max((len(kernel) for kernel in kernels), default=1)), np.float32)
    for row, kernel in enumerate(kernels):
        weights[row, : len(kernel)] = kernel
    steps, blends, hued, turns = _stack_steps(draws)
    return Finishes(
        steps=steps,
        flip=torch.tensor([draw.flip for draw in draws], dtype=torch.bool),
        blends=torch.from_numpy(blends),
        hued=torch.tensor(hued, dtype=torch.int64),
        turns=torch.tensor(turns, dtype=torch.float32),
        blurred=torch.tensor(blurred, dtype=torch.int64),
        weights=torch.from_numpy(weights),
        solarize=torch.tensor([draw.solarize for draw in draws], dtype=torch.bool),
    )


def _stack_steps(
    draws: Sequence[PhotoDraw],
) -> tuple[tuple[Step, ...], NDArray[np.float32], list[int], list[float]]:
    named = [(*draw.jitter, ("gray", 1.0)) if draw.gray else draw.jitter for draw in draws]
    blends = np.zeros((max((len(one) for one in named), default=0), 3, len(draws)), np.float32)
    blends[:, 0] = 1
    steps: list[Step] = []
    hued: list[int] = []
    turns: list[float] = []
    for position, blend in enumerate(blends):
        at = [(row, *one[position]) for row, one in enumerate(named) if position < len(one)]
        hues = [(row, factor) for row, name, factor in at if name == "hue"]
        mixed = [(row, 0.0 if name == "gray" else factor, *_SHARES[name]) for row, name, factor in at if name != "hue"]
        if mixed:
            rows, *shares = zip(*mixed, strict=True)
            blend[:, rows] = shares
        hued += [row for row, _ in hues]
        turns += [factor for _, factor in hues]
        steps.append(Step(bool(mixed), any(name not in ("hue", "brightness") for _, name, _ in at), len(hues)))
    return tuple(steps), blends, hued, turns


def finish(crops: Tensor, finishes: Finishes) -> Tensor:
    """Do everything that is done to views after their resize.

    Args:
        crops: (B, C, H, W), uint8 with C 1 or 3, or float32 of any channels, on which steps of colour do nothing.
        finishes: their draws, on the same device.

    Returns:
        (B, C, H, W), three equal planes of a grey image; uint8 within 1 of what the compiled loop gives, or float32.
    """
    # Half precision, which training may have switched on here, would be seen in the pixels.
    with torch.no_grad(), torch.autocast(crops.device.type, enabled=False):
        values = crops.to(torch.float32, memory_format=torch.contiguous_format)
        return _finish(values, finishes, rounds=crops.dtype == torch.uint8)


def _finish(values: Tensor, finishes: Finishes, *, rounds: bool) -> Tensor:
    values = torch.where(finishes.flip.view(-1, 1, 1, 1), values.flip(-1), values)
    end = 0
    for step, blend in zip(finishes.steps, finishes.blends, strict=True):
        if step.blends:
            values = _blend(values, *blend.view(3, -1, 1, 1, 1), grays=step.grays)
        start, end = end, end + step.hues
        if step.hues and values.shape[1] == 3:  # other channels have no hue
            rows, turns = finishes.hued[start:end], finishes.turns[start:end].view(-1, 1, 1, 1)
            values.index_copy_(0, rows, _turn(values.index_select(0, rows), 6 * turns))
    if len(finishes.blurred):
        blurred = _blur(values.index_select(0, finishes.blurred), finishes.weights)
        values.index_copy_(0, finishes.blurred, blurred)
    found = (values + 0.5).to(torch.uint8) if rounds else values
    found = torch.where(finishes.solarize.view(-1, 1, 1, 1) & (found >= 128), 255 - found, found)
    return found.expand(-1, 3, -1, -1).contiguous() if found.shape[1] == 1 else found.contiguous()


def _blend(values: Tensor, factor: Tensor, luma_share: Tensor, mean_share: Tensor, *, grays: bool) -> Tensor:
    """Return factor · values + (1 - factor) · grey, where grey is black, the pixel's luma or the image's mean luma."""
    if not grays:
        return (values * factor).clamp_(0, 255)
    if values.shape[1] != 3:  # without colours saturation and grey change nothing; contrast is each channel's own
        luma, factor = values, torch.where(luma_share > 0, 1.0, factor)
    else:
        red, green, blue = values.split(1, 1)
        luma = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    gray = luma_share * luma + mean_share * luma.mean((2, 3), keepdim=True)
    return (values * factor).add_((1 - factor) * gray).clamp_(0, 255)


def _turn(values: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue; the equation stands at `photometric._turn`."""
    red, green, blue = values.split(1, 1)
    value = values.amax(1, keepdim=True)
    chroma = value - values.amin(1, keepdim=True)
    inverse = 1 / torch.where(chroma > 0, chroma, 1.0)
    hue = torch.where(value == green, (blue - red) * inverse + 2, (red - green) * inverse + 4)
    hue = torch.where(value == red, (green - blue) * inverse, hue) + turn
    k = (hue + torch.arange(5, 0, -2, device=values.device).view(1, 3, 1, 1)) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)


def _blur(values: Tensor, weights: Tensor) -> Tensor:
    half = weights.shape[1] - 1
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
