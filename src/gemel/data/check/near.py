"""Near duplicates: the same picture resized, compressed again or cropped a little, by its thumbnail alone."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gemel.data.check.alignment import Difference, aligned, blurred, halved
from gemel.data.check.candidates import Candidates, candidates
from gemel.data.check.keep import covered
from gemel.data.check.measure import SIDE, Measured
from gemel.data.threads import threads_apart

SAME = 0.08
"""difference of two thumbnails, as a share of their contrast, up to which they are of one picture"""

STANDS_OUT = 0.3, 0.25
"""they are too up to the first of these, where the difference is below the second times that to any other image: fine
patterns lose more by cropping"""

PLAIN = 10.0
"""levels of contrast below which a pair must not stand out alone"""

FLAT = 3.0
"""levels of contrast below which thumbnails are compared as they are, blurred: there is nothing to align"""

FLAT_SCALE = 5.0
"""levels that a difference of flat images, or of their colours, is a share of"""

FLAT_BLUR = 2.0
"""pixels"""

PRUNED = 0.8
"""difference at half the size above which a pair is not looked at closely"""

NOISE = 0.5
"""levels of a difference that compression makes"""

COLOURS = 8.0
"""levels by which mean blue and red, less luminance, may differ"""

SMALLEST = 12
"""pixels a side of images that can be told from others so: digits of 8 x 8 pixels are alike by nature"""

LARGEST = 1.14
"""side of one image over that of the part of it that is the other"""

SHIFT = 0.08
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
        rows: images to compare; those below `SMALLEST` pixels are passed over.
        order: all rows, those to keep first.
    """
    sides = np.minimum(measured.heights, measured.widths)
    compared = np.sort(rows[sides[rows] >= SMALLEST])
    known, looked_for, rest = _NONE, compared, compared
    found: dict[tuple[int, int], float] = {}
    left_out: dict[int, int] = {}
    for _ in range(ROUNDS):
        if not len(looked_for) or len(rest) < 2:
            break
        known = known.among(rest).joined(_compared(measured, rest, looked_for))
        new = known.duplicates()
        if not new.keys() - found.keys():
            break
        found |= new
        left_out = covered(found, order)
        rest = compared[~np.isin(compared, list(left_out))]
        looked_for = rest[np.isin(rest, np.array(list(found)))]
    several = sorted(left_out)
    of = [left_out[row] for row in several]
    values = [found[min(row, kept), max(row, kept)] for row, kept in zip(several, of, strict=True)]
    return Near(np.array(several, np.int64), np.array(of, np.int64), np.array(values))


class _Pairs(NamedTuple):
    """Pairs of images that were compared, each once: columns of one length."""

    rows: NDArray[np.int64]
    """(m, 2), the lower row first"""
    difference: NDArray[np.float64]
    is_crop: NDArray[np.bool_]
    """whether the one is a crop of the other"""
    contrast: NDArray[np.float64]

    def joined(self, other: "_Pairs") -> "_Pairs":
        """Return the pairs of both."""
        rows, first = np.unique(np.concatenate([self.rows, other.rows]), axis=0, return_index=True)
        return _Pairs(
            rows,
            np.concatenate([self.difference, other.difference])[first],
            np.concatenate([self.is_crop, other.is_crop])[first],
            np.concatenate([self.contrast, other.contrast])[first],
        )

    def among(self, rows: NDArray[np.int64]) -> "_Pairs":
        """Return the pairs of these images alone."""
        chosen = np.isin(self.rows, rows).all(1)
        return _Pairs(self.rows[chosen], self.difference[chosen], self.is_crop[chosen], self.contrast[chosen])

    def duplicates(self) -> dict[tuple[int, int], float]:
        """Return the near duplicates, with their differences: small ones, or much smaller than all others of both."""
        values, (limit, share) = self.difference, STANDS_OUT
        stands_out = (values < limit) & (values < share * self._others()) & (self.contrast >= PLAIN)
        chosen = self.is_crop & ((values < SAME) | stands_out)
        return {
            (one, two): value
            for (one, two), value in zip(self.rows[chosen].tolist(), values[chosen].tolist(), strict=True)
        }

    def _others(self) -> NDArray[np.float64]:
        """Return for each pair the smallest difference but one of either image, at most 1."""
        images, both = self.rows.reshape(-1), self.difference.repeat(2)
        order = np.lexsort((both, images))
        is_second = np.zeros(len(order), bool)
        is_second[1:] = images[order][1:] == images[order][:-1]
        is_second[2:] &= images[order][2:] != images[order][:-2]
        second = np.ones(images.max(initial=-1) + 1)
        second[images[order][is_second]] = np.minimum(both[order][is_second], 1)
        return second[self.rows].min(1, initial=1)


_NONE = _Pairs(np.empty((0, 2), np.int64), np.empty(0), np.empty(0, bool), np.empty(0))


def _compared(measured: Measured, among: NDArray[np.int64], looked_for: NDArray[np.int64]) -> _Pairs:
    """Return pairs that may be duplicates, each with an image looked for, and how different they are."""
    thumbnails = torch.from_numpy(measured.thumbnails[among])
    found = candidates(thumbnails, measured.colours[among, 0], np.searchsorted(among, looked_for))
    colours = measured.colours[among, 1:]
    apart = np.abs(colours[found.whole.numpy()] - colours[found.part.numpy()]).max(1, initial=0)
    fits = apart <= COLOURS
    found, apart = Candidates(*(column[torch.from_numpy(fits)] for column in found)), apart[fits]
    sides = np.minimum(measured.heights, measured.widths)[among]
    difference, is_crop, contrast = _differences(thumbnails, torch.from_numpy(sides), found)
    difference = np.where(contrast < FLAT, np.maximum(difference, apart / FLAT_SCALE), difference)
    rows = np.sort(among[np.stack([found.whole.numpy(), found.part.numpy()], 1)], axis=1)
    return _Pairs(rows, difference, is_crop, contrast)


def _differences(
    thumbnails: Tensor, sides: Tensor, pairs: Candidates
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Return of each pair, (m,): root mean square over contrast, whether one is a crop of the other, and contrast.

    The difference of pairs that are not looked at closely is infinite.

    Args:
        thumbnails: (n, S, S) uint8.
        sides: (n,) shorter side of each image, pixels.
        pairs: with first guesses of the crops.
    """
    count = len(pairs.whole)
    found, is_crop, contrast = torch.full((count,), torch.inf), torch.zeros(count, dtype=torch.bool), torch.zeros(count)
    resolution = torch.minimum(sides[pairs.whole], sides[pairs.part]).clamp(max=SIDE)

    def look(rows: Tensor) -> None:
        one, two, crops = (column[rows] for column in pairs)
        one, two = thumbnails[one], thumbnails[two]
        crops, difference = _aligned(halved(one), halved(two), crops, resolution[rows], STEPS[0])
        kept = _share(difference) <= PRUNED
        rows, one, two = rows[kept], one[kept].float(), two[kept].float()
        crops, difference = _aligned(one, two, crops[kept], resolution[rows], STEPS[1])
        is_flat = difference.contrast < FLAT
        found[rows] = torch.where(is_flat, _flat_difference(one, two), _share(difference))
        is_crop[rows], contrast[rows] = is_flat | _are_crops(crops), difference.contrast

    with threads_apart() as pool:
        for _ in pool.map(look, torch.arange(count).split(CHUNK)):
            pass
    return found.double().numpy(), is_crop.numpy(), contrast.double().numpy()


def _aligned(one: Tensor, two: Tensor, crops: Tensor, resolution: Tensor, steps: int) -> tuple[Tensor, Difference]:
    """Align images (n, S, S) at the resolution (n,) of the coarser one, in pixels of its shorter side."""
    sigma = BLUR * one.shape[1] / resolution.clamp(max=one.shape[1])
    return aligned(blurred(one, sigma), blurred(two, sigma), crops, steps)


def _share(difference: Difference) -> Tensor:
    return (difference.error - NOISE).clamp_min(0) / difference.contrast.clamp_min(1e-6)


def _flat_difference(one: Tensor, two: Tensor) -> Tensor:
    sigma = torch.full((len(one),), FLAT_BLUR)
    return (blurred(one, sigma) - blurred(two, sigma)).square().mean((1, 2)).sqrt() / FLAT_SCALE


def _are_crops(crops: Tensor) -> Tensor:
    """Tell which crops (n, 4) show nearly all of an image, or whose image they show nearly all of."""
    scale, shift = crops[:, :2], crops[:, 2:].abs()
    contains = ((shift + scale <= 1 + SHIFT) | (scale - shift >= 1 - SHIFT)).all(1)
    return contains & ((scale <= LARGEST) & (scale >= 1 / LARGEST)).all(1)
