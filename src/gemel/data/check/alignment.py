"""How different two thumbnails are at best, where one may show a little less of the scene than the other.

A crop is x ↦ s x + t along each axis, x in [-1, 1] over the image: cut(A, c)(x) = A(s x + t), c = (s_y, s_x, t_y, t_x).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

LARGEST_SCALE = 1.18
"""of a crop to be found; 1 / `LARGEST_SCALE` is the smallest"""

LARGEST_SHIFT = 0.18
"""of a crop to be found, as a share of half the side"""

_STEP = 0.05  # of one Gauss-Newton step, at most
_KEYS = -0.5  # of the cubic, as in Pillow


class Difference(NamedTuple):
    """Of pairs of thumbnails after the best crop, each (n,)."""

    error: Tensor
    """root mean square, levels"""
    contrast: Tensor
    """standard deviation of the flatter of the two, levels"""


def cut(images: Tensor, crops: Tensor) -> tuple[Tensor, Tensor]:
    """Return the crops of images, and where they lie inside.

    Args:
        images: (n, S, S) float.
        crops: (n, 4), c = (s_y, s_x, t_y, t_x).

    Returns:
        pixels (n, S, S), interpolated by a cubic, and 1 or 0 (n, S, S).
    """
    rows, row_inside = _weights(crops[:, 0], crops[:, 2], images.shape[1])
    columns, column_inside = _weights(crops[:, 1], crops[:, 3], images.shape[2])
    pixels = torch.bmm(torch.bmm(rows, images), columns.transpose(1, 2))
    return pixels, row_inside[:, :, None] * column_inside[:, None, :]


def halved(thumbnails: Tensor) -> Tensor:
    """Return thumbnails (n, S, S) at half their size, in float32."""
    return avg_pool2d(thumbnails.float()[:, None], 2)[:, 0]


def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Return images (n, S, S) after a Gaussian of σ pixels, one for each (n,)."""
    values, number = sigma.unique(return_inverse=True)  # few: they follow from whole numbers of pixels
    position = torch.arange(images.shape[-1], dtype=images.dtype)
    kernels = torch.exp(-((position[:, None] - position) ** 2) / (2 * values[:, None, None] ** 2))
    kernel = (kernels / kernels.sum(2, keepdim=True))[number]  # (n, S, S)
    return torch.bmm(torch.bmm(kernel, images), kernel.transpose(1, 2))


def aligned(whole: Tensor, part: Tensor, crops: Tensor, steps: int) -> tuple[Tensor, Difference]:
    """Return the crop of each `whole` that is most like `part`: min over c and b of ‖cut(A, c) + b - B‖.

    By Gauss-Newton, inverse compositional (Baker and Matthews 2004): the derivatives are B's, and taken once.

    Args:
        whole: A (n, S, S), levels.
        part: B (n, S, S).
        crops: (n, 4), first guesses; scales may be above 1: then B shows more than A.
        steps: of Gauss-Newton.

    Returns:
        crops (n, 4), and how different the two are then.
    """
    jacobian, inverse = _derivatives(part)
    for _ in range(steps):
        seen, inside = cut(whole, crops)
        residual = (seen - part) * inside
        residual -= inside * (residual.sum((1, 2), keepdim=True) / _count(inside))
        gradient = torch.bmm(jacobian, residual.flatten(1)[:, :, None])
        step = torch.bmm(inverse, gradient)[:, :, 0].clamp(-_STEP, _STEP)
        scales = (crops[:, :2] / (1 + step[:, :2])).clamp(1 / LARGEST_SCALE, LARGEST_SCALE)
        crops = torch.cat([scales, (crops[:, 2:] - scales * step[:, 2:]).clamp(-LARGEST_SHIFT, LARGEST_SHIFT)], 1)
    seen, inside = cut(whole, crops)
    count = _count(inside)[:, 0, 0]
    error = (((seen - part) ** 2 * inside).sum((1, 2)) / count).sqrt()
    contrast = torch.minimum(_deviation(seen, inside), _deviation(part, inside))
    return crops, Difference(error, contrast)


def _derivatives(part: Tensor) -> tuple[Tensor, Tensor]:
    """Return J, B's derivatives by scales and shifts (n, 4, S²), and (JᵀJ + damping)⁻¹, brightness left free."""
    side = part.shape[1]
    grid = _grid(side, part)
    jacobian = part.new_zeros(len(part), 4, side, side)
    down, right = jacobian[:, 2, 1:-1], jacobian[:, 3, :, 1:-1]
    torch.sub(part[:, 2:], part[:, :-2], out=down).mul_(side / 4)  # the side has length 2
    torch.sub(part[:, :, 2:], part[:, :, :-2], out=right).mul_(side / 4)
    torch.mul(jacobian[:, 2], grid[:, None], out=jacobian[:, 0])
    torch.mul(jacobian[:, 3], grid, out=jacobian[:, 1])
    jacobian = jacobian.flatten(2)
    mean = jacobian.mean(2, keepdim=True)
    normal = torch.bmm(jacobian, jacobian.transpose(1, 2)) - side**2 * torch.bmm(mean, mean.transpose(1, 2))
    damping = 0.01 * (normal.diagonal(dim1=1, dim2=2).mean(1, keepdim=True) + 1)
    return jacobian, torch.linalg.inv(normal + torch.diag_embed(damping.expand(-1, 4)))


def _count(inside: Tensor) -> Tensor:
    return inside.sum((1, 2), keepdim=True).clamp_min(1)


def _weights(scale: Tensor, shift: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the weights of the source's pixels in each pixel of a crop along one axis, (n, S, S), and 1 if inside."""
    position = ((scale[:, None] * _grid(side, scale) + shift[:, None]) + 1) * (side / 2) - 0.5
    inside = ((position >= -0.5) & (position <= side - 0.5)).to(scale.dtype)
    position = position.clamp(0, side - 1)
    first = position.floor()
    after = position - first  # (n, S), 0..1
    far, near = (
        ((_KEYS * after - 2 * _KEYS) * after + _KEYS) * after,
        ((_KEYS + 2) * after - (_KEYS + 3)) * after**2 + 1,
    )
    before = 1 - after
    other_near = ((_KEYS + 2) * before - (_KEYS + 3)) * before**2 + 1
    taps = torch.stack([far, near, other_near, 1 - far - near - other_near], 2)  # they add up to 1
    places = (first.long()[:, :, None] + torch.arange(-1, 3)).clamp(0, side - 1)
    weights = scale.new_zeros(len(scale), side, side).scatter_add_(2, places, taps)
    return weights, inside


def _grid(side: int, like: Tensor) -> Tensor:
    """Return the centres of pixels along an axis from -1 to 1."""
    return (torch.arange(side, dtype=like.dtype) + 0.5) * (2 / side) - 1


def _deviation(images: Tensor, inside: Tensor) -> Tensor:
    mean = (images * inside).sum((1, 2), keepdim=True) / _count(inside)
    return (((images - mean) ** 2 * inside).sum((1, 2)) / _count(inside)[:, 0, 0]).sqrt()
