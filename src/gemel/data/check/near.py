"""Near duplicates: the same picture resized, compressed again or cropped a little, by its thumbnail alone."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemel.data.check.alignment import aligned, blurred, halved
from gemel.data.check.candidates import Candidates, candidates
from gemel.data.check.keep import covered
from gemel.data.check.measure import SIDE, Measured

SAME = 0.08
"""difference of two thumbnails, as a share of their contrast, up to which they are of one picture"""

STANDS_OUT = 0.3, 0.3
"""they are too up to the first of these, where the difference is below the second times that to any other image: fine
patterns lose more by cropping"""

PRUNED = 0.8
"""difference at half the size above which a pair is not looked at closely"""

NOISE = 0.5
"""levels that compression adds to flat images"""

COLOURS = 8.0
"""levels by which mean blue and red, less luminance, may differ"""

SMALLEST = 12
"""pixels a side of images that can be told from others so: digits of 8 x 8 pixels are alike by nature"""

SHIFT = 0.05
"""of half the side, by which neither image may contain the other: the rest of a crop is inside"""

BLUR = 0.8
"""pixels of the coarser image"""

STEPS = 4, 2
"""of Gauss-Newton at half the size, and at the whole"""

ROUNDS = 10
"""searches at most: groups of more than a few images take several"""

CHUNK = 128
"""pairs at a time: what is computed of them fits into a processor's cache"""


class Near(NamedTuple):
    """Near duplicates: columns of one length."""

    rows: NDArray[np.int64]
    of: NDArray[np.int64]
    """the row to keep"""
    difference: NDArray[np.float64]
    """root mean square after alignment, as a share of contrast"""


def near_duplicates(measured: Measured, rows: NDArray[np.int64], order: NDArray[np.int64]) -> Near:
    """Return near duplicates among some images.

    Neighbours are searched among all. A search finds a few of each image; so those that had duplicates are searched
    again, among the images that are left, until nothing new is found.

    Args:
        measured: what the pass found.
        rows: images to compare; those of nearly one colour, or below `SMALLEST` pixels, are passed over.
        order: all rows, those to keep first.
    """
    sides = np.minimum(measured.heights, measured.widths)
    compared = np.sort(rows[~measured.is_uniform[rows] & (sides[rows] >= SMALLEST)])
    pairs: dict[tuple[int, int], float] = {}
    left_out: dict[int, int] = {}
    rest = looked_for = compared
    for _ in range(ROUNDS):
        new = _pairs(measured, rest, looked_for) if len(looked_for) and len(rest) > 1 else {}
        if not new.keys() - pairs.keys():
            break
        pairs |= new
        left_out = covered(pairs, order)
        rest = compared[~np.isin(compared, list(left_out))]
        looked_for = rest[np.isin(rest, np.array(list(pairs)))]
    several = sorted(left_out)
    of = [left_out[row] for row in several]
    values = [pairs[min(row, kept), max(row, kept)] for row, kept in zip(several, of, strict=True)]
    return Near(np.array(several, np.int64), np.array(of, np.int64), np.array(values))


def _pairs(measured: Measured, among: NDArray[np.int64], looked_for: NDArray[np.int64]) -> dict[tuple[int, int], float]:
    """Return pairs of near duplicates, the lower row first, each with an image looked for, and their differences."""
    thumbnails = torch.from_numpy(measured.thumbnails[among])
    found = candidates(thumbnails, measured.colours[among, 0], np.searchsorted(among, looked_for))
    whole, part = found.whole.numpy(), found.part.numpy()
    colours = measured.colours[among, 1:]
    fits = np.abs(colours[whole] - colours[part]).max(1, initial=0) <= COLOURS
    sides = np.minimum(measured.heights, measured.widths)[among]
    values = np.full(len(whole), np.inf)
    values[fits] = _differences(thumbnails, torch.from_numpy(sides), Candidates(*(one[fits] for one in found)))
    chosen = _are_duplicates(values, np.stack([whole, part], 1))
    both = np.sort(np.stack([among[whole[chosen]], among[part[chosen]]], 1), axis=1).tolist()
    return {(one, two): value for (one, two), value in zip(both, values[chosen].tolist(), strict=True)}


def _differences(thumbnails: Tensor, sides: Tensor, pairs: Candidates) -> NDArray[np.float64]:
    """Return the difference of each pair, (m,): root mean square over contrast, infinite where the best crop is none.

    Args:
        thumbnails: (n, S, S) uint8.
        sides: (n,) shorter side of each image, pixels.
        pairs: with first guesses of the crops.
    """
    found = np.full(len(pairs.whole), np.inf)
    resolution = torch.minimum(sides[pairs.whole], sides[pairs.part]).clamp(max=SIDE)
    for start in range(0, len(found), CHUNK):
        rows, crops = torch.arange(start, min(start + CHUNK, len(found))), pairs.crops[start : start + CHUNK]
        values = torch.zeros(len(rows))
        for is_whole, steps in zip((False, True), STEPS, strict=True):
            one, two = (thumbnails[column[rows]] for column in (pairs.whole, pairs.part))
            one, two = (one.float(), two.float()) if is_whole else (halved(one), halved(two))
            sigma = BLUR * one.shape[1] / resolution[rows].clamp(max=one.shape[1])
            crops, difference = aligned(blurred(one, sigma), blurred(two, sigma), crops, steps)
            values = (difference.error - NOISE).clamp_min(0) / difference.contrast.clamp_min(1e-6)
            kept = values <= PRUNED
            rows, crops, values = rows[kept], crops[kept], values[kept]
        is_crop = _one_contains_the_other(crops)
        found[rows[is_crop].numpy()] = values[is_crop].double().numpy()
    return found


def _one_contains_the_other(crops: Tensor) -> Tensor:
    scale, shift = crops[:, :2], crops[:, 2:].abs()
    return ((shift + scale <= 1 + SHIFT) | (scale - shift >= 1 - SHIFT)).all(1)


def _are_duplicates(values: NDArray[np.float64], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which pairs (m, 2) are near duplicates by their differences (m,) and those of both images' other pairs."""
    images, both = pairs.reshape(-1), values.repeat(2)
    order = np.lexsort((both, images))
    is_second = np.zeros(len(order), bool)  # the smallest but one of an image's differences
    is_second[1:] = images[order][1:] == images[order][:-1]
    is_second[2:] &= images[order][2:] != images[order][:-2]
    others = np.ones(images.max(initial=-1) + 1)
    others[images[order][is_second]] = np.minimum(both[order][is_second], 1)
    limit, share = STANDS_OUT
    stands_out = (values < limit) & (values < share * others[pairs].min(1, initial=1))
    return (values < SAME) | stands_out
