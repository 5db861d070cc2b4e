"""Pairs of images that may be near duplicates: nearest neighbours of crops by their low frequencies."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from gemel.data.check.alignment import cut, halved
from gemel.metrics.neighbours import nearest

FREQUENCIES = 8
"""of the cosine transform along each axis that are compared: a crop of 5 % hardly moves them"""

CROPS = (
    *((scale, 0.0, 0.0) for scale in (1.0, 0.95, 0.9)),
    *((0.95, down, right) for down in (-0.05, 0.05) for right in (-0.05, 0.05)),
)
"""scale and shift (down, right) of the crops of each image that are looked for among the others"""

NEIGHBOURS = 5
"""of each crop"""

KEPT = 6
"""candidates of an image, the most alike"""

LEAST = 0.6
"""cosine of a candidate at least"""

APART = 20.0
"""levels by which mean luminance may differ"""

BLOCK = 1024
"""images that are looked for at a time"""


class Candidates(NamedTuple):
    """Pairs, each once: `part` may be the crop `crops` of `whole`."""

    whole: Tensor
    """(m,) rows"""
    part: Tensor
    """(m,) rows"""
    crops: Tensor
    """(m, 4) as `alignment.cut` takes them"""


class _Found(NamedTuple):
    """Candidates as they are found: columns of one length."""

    cosine: Tensor
    whole: Tensor
    part: Tensor
    crop: Tensor
    """number among `CROPS`"""


def descriptors(thumbnails: Tensor) -> Tensor:
    """Return the low frequencies of images (n, S, S) without their mean, of length 1: (n, FREQUENCIES² - 1)."""
    side = thumbnails.shape[-1]
    position = torch.arange(side, dtype=thumbnails.dtype) + 0.5
    basis = torch.cos(torch.pi / side * torch.arange(FREQUENCIES, dtype=thumbnails.dtype)[:, None] * position)
    basis[0] *= 0.5**0.5
    return normalize((basis @ thumbnails @ basis.T).flatten(1)[:, 1:], dim=1)


def candidates(thumbnails: Tensor, luminance: NDArray[np.float32], wanted: NDArray[np.int64]) -> Candidates:
    """Return pairs of images of which one may be a crop of the other, or the same at another size.

    An exact search in n² · crops · frequencies² operations and O(n) memory; images are compared only where their mean
    luminance allows.

    Args:
        thumbnails: (n, S, S) uint8.
        luminance: (n,) mean of each, levels.
        wanted: rows whose neighbours are looked for, among all.
    """
    order = np.argsort(luminance, kind="stable")
    luminance = luminance[order]
    by_luminance = torch.from_numpy(order)  # rows below count in this order
    blocks = by_luminance.split(BLOCK)
    bank = torch.cat([descriptors(halved(thumbnails[block])) for block in blocks])
    places = np.sort(np.argsort(order)[wanted])
    crops = torch.tensor([(scale, scale, down, right) for scale, down, right in CROPS])
    found: list[_Found] = []
    for start in range(0, len(places), BLOCK):
        rows = places[start : start + BLOCK]
        first = int(np.searchsorted(luminance, luminance[rows[0]] - APART))
        last = int(np.searchsorted(luminance, luminance[rows[-1]] + APART, "right"))
        if last - first > 1:
            images = halved(thumbnails[by_luminance[rows]])
            found.append(_search(images, torch.from_numpy(rows), bank[first:last], first, crops))
    if not found:
        none = torch.empty(0, dtype=torch.int64)
        return Candidates(none, none, crops[:0])
    cosine, whole, part, crop = (torch.cat(column) for column in zip(*found, strict=True))
    return _each_once(_Found(cosine, by_luminance[whole], by_luminance[part], crop), crops)


def _search(images: Tensor, rows: Tensor, bank: Tensor, first: int, crops: Tensor) -> _Found:
    """Return the best candidates of some images (b, S, S), at `rows`, in a bank that begins at row `first`."""
    k = min(NEIGHBOURS + 1, len(bank))  # one is the image itself
    cropped = torch.cat([cut(images, crop.expand(len(images), 4))[0] for crop in crops])
    near, index = (one.unflatten(0, (len(crops), -1)) for one in nearest(descriptors(cropped), bank, k))  # (c, b, k)
    own = rows[:, None]
    cosine, part = near.transpose(0, 1).flatten(1), index.transpose(0, 1).flatten(1) + first  # (b, c k)
    crop = torch.arange(len(crops)).repeat_interleave(k).expand(len(images), -1)
    cosine, order = cosine.masked_fill(part == own, -1).sort(dim=1, descending=True, stable=True)
    part, crop = part.gather(1, order), crop.gather(1, order)
    is_repeated = (part[:, :, None] == part[:, None, :]).tril(-1).any(2)  # found by another crop, and more alike
    cosine, order = cosine.masked_fill(is_repeated, -1).sort(dim=1, descending=True, stable=True)
    chosen = (cosine >= LEAST) & (torch.arange(cosine.shape[1]) < KEPT)
    part, crop = part.gather(1, order), crop.gather(1, order)
    return _Found(cosine[chosen], own.expand_as(part)[chosen], part[chosen], crop[chosen])


def _each_once(found: _Found, crops: Tensor) -> Candidates:
    """Return pairs, each in the better of both directions."""
    low, high = torch.minimum(found.whole, found.part), torch.maximum(found.whole, found.part)
    order = torch.from_numpy(np.lexsort((-found.cosine.numpy(), high.numpy(), low.numpy())))
    low, high = low[order], high[order]
    is_first = torch.ones(len(order), dtype=torch.bool)
    is_first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    chosen = order[is_first]
    return Candidates(found.whole[chosen], found.part[chosen], crops[found.crop[chosen]])
