"""All findings about a dataset's images, each with the image to keep, a number and what it means in words."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from gemel.data.check import quality
from gemel.data.check.exact import alike, same_bytes, same_pixels
from gemel.data.check.keep import preference
from gemel.data.check.measure import Measured, measure
from gemel.data.check.near import Near, near_duplicates
from gemel.data.listing import printable
from gemel.data.sources import Source
from gemel.metrics.outliers import far_out, neighbour_distance

EXACT, NEAR = "exact duplicate", "near duplicate"
UNLIKE, BLURRED, DARK, UNIFORM = "unlike any other", "blurred", "dark", "nearly one colour"
SIZE, SHAPE, UNREADABLE = "odd size", "odd shape", "unreadable"
KINDS = (EXACT, NEAR, UNLIKE, BLURRED, DARK, UNIFORM, SIZE, SHAPE, UNREADABLE)

NEIGHBOUR = 5
"""An image is unlike any other where so many nearest images are all far: a few copies of it change nothing."""

EQUAL = 0.04
"""difference of thumbnails up to which pixels are compared: a JPEG's was made from a smaller image than a PNG's"""

FEWEST = 20
"""images among which one can be unlike the others"""

GROUP = 50_000
"""images that are compared with each other for it; more are shared out to groups by chance"""


class Finding(NamedTuple):
    """One finding about one image."""

    image: int
    """index in the source"""
    kind: str
    """one of `KINDS`"""
    about: str
    """what was found, in words"""
    value: float | None = None
    of: int | None = None
    """index of the image that it is a duplicate of"""


class Features(NamedTuple):
    """Vectors of some images of a source."""

    indices: NDArray[np.int64]
    """(n,) increasing"""
    rows: Tensor
    """(n, D)"""


@dataclass(frozen=True)
class Findings:
    """What was found in the images of a source.

    Args:
        source: the images.
        found: by kind in the order of `KINDS`; duplicates by the image to keep, others the gravest first.
        looked_at: number of images that were opened.
    """

    source: Source
    found: tuple[Finding, ...]
    looked_at: int

    @property
    def counts(self) -> dict[str, int]:
        """Number of images by kind, in the order of `KINDS`."""
        counts = Counter(one.kind for one in self.found)
        return {kind: counts[kind] for kind in KINDS}

    def summary(self) -> list[str]:
        """Return a line for each kind that was found, with an example."""
        first: dict[str, Finding] = {}
        for one in self.found:
            first.setdefault(one.kind, one)
        lines = [f"{self.looked_at:,} images: {'nothing found' if not first else ''}".rstrip()]
        for kind, one in first.items():
            of = "" if one.of is None else f" of {self._path(one.of)}"
            lines.append(f"  {kind:18}{self.counts[kind]:>8,}   such as {self._path(one.image)}{of} ({one.about})")
        return lines

    def table(self) -> pa.Table:
        """Return a row for each finding: path, finding, of, value, about."""
        paths = [None if one.of is None else self._path(one.of) for one in self.found]
        return pa.table(
            {
                "path": pa.array([self._path(one.image) for one in self.found], pa.string()),
                "finding": pa.array([one.kind for one in self.found], pa.string()),
                "of": pa.array(paths, pa.string()),
                "value": pa.array([one.value for one in self.found], pa.float64()),
                "about": pa.array([one.about for one in self.found], pa.string()),
            }
        )

    def _path(self, index: int) -> str:
        return printable(self.source.path(index))


def find(
    source: Source,
    *,
    indices: NDArray[np.int64] | None = None,
    features: Features | None = None,
    workers: int | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> Findings:
    """Open images once, and return what is wrong with them.

    Args:
        source: the images.
        indices: of those to look at, increasing; None: all.
        features: by which images are unlike any other, of those that have them; None: by their thumbnails.
        workers: threads; None: one for each core.
        tell: told how many of how many files were read.
    """
    measured = measure(source, indices, workers=workers, tell=tell)
    exact, near = duplicates(source, measured)
    left_out = np.array([row for row, _, _ in exact] + near.rows.tolist(), np.int64)
    kept = np.setdiff1d(np.arange(len(measured)), left_out)
    found = (*_of_duplicates(measured, exact, near), *_unlike(measured, kept, features), *_quality(measured))
    unreadable = (Finding(index, UNREADABLE, reason) for index, reason in measured.rejected.items())
    return Findings(source, (*found, *unreadable), len(measured) + len(measured.rejected))


def duplicates_of(source: Source, *, workers: int | None = None) -> dict[int, int]:
    """Return exact and near duplicates among the readable images: index of each, and of the image to keep."""
    measured = measure(source, workers=workers)
    exact, near = duplicates(source, measured)
    of = {row: kept for row, kept, _ in exact} | dict(zip(near.rows.tolist(), near.of.tolist(), strict=True))
    for row, kept in of.items():
        while kept in of:  # a copy of an image that is a near duplicate itself
            kept = of[kept]
        of[row] = kept
    return {int(measured.indices[row]): int(measured.indices[kept]) for row, kept in sorted(of.items())}


def duplicates(source: Source, measured: Measured) -> tuple[list[tuple[int, int, str]], Near]:
    """Return exact duplicates (row, row to keep, in what they are the same), and near ones among the others."""
    order = preference(measured)
    first = same_bytes(measured, order)
    is_first = first == np.arange(len(first))
    exact = [(row, int(first[row]), "the same bytes") for row in np.flatnonzero(~is_first).tolist()]
    rest = np.flatnonzero(is_first)
    equal = dict(same_pixels(source, measured, alike(measured, rest, order)))
    near = near_duplicates(measured, np.setdiff1d(rest, list(equal)), order)
    maybe = near.difference < EQUAL
    for sides in (measured.heights, measured.widths):
        maybe &= sides[near.rows] == sides[near.of]
    pairs = zip(near.rows[maybe].tolist(), near.of[maybe].tolist(), strict=True)
    equal |= dict(same_pixels(source, measured, pairs))
    is_near = np.array([row not in equal for row in near.rows.tolist()], bool)
    exact += [(row, kept, "the same pixels") for row, kept in equal.items()]
    return sorted(exact), Near(near.rows[is_near], near.of[is_near], near.difference[is_near])


def _of_duplicates(measured: Measured, exact: list[tuple[int, int, str]], near: Near) -> Iterator[Finding]:
    indices = measured.indices
    for row, kept, same in sorted(exact, key=lambda one: (one[1], one[0])):
        yield Finding(int(indices[row]), EXACT, same, 0.0, int(indices[kept]))
    for place in np.lexsort((near.rows, near.of)).tolist():
        row, kept, value = int(near.rows[place]), int(near.of[place]), float(near.difference[place])
        sizes = f"{_size(measured, row)} and {_size(measured, kept)}"
        about = f"{sizes}, they differ by {100 * value:.1f} % of the contrast"
        yield Finding(int(indices[row]), NEAR, about, value, int(indices[kept]))


def _unlike(measured: Measured, kept: NDArray[np.int64], features: Features | None) -> Iterator[Finding]:
    """Yield images whose nearest neighbours are all far, farthest first."""
    if features is None:
        rows = torch.from_numpy(_look(measured, kept))
    else:
        places = np.searchsorted(features.indices, measured.indices[kept]).clip(max=len(features.indices) - 1)
        has_any = features.indices[places] == measured.indices[kept]
        kept, places = kept[has_any], places[has_any]
        rows = normalize(features.rows[torch.from_numpy(places)].float(), dim=1)
    if len(kept) < FEWEST:
        return
    distance = torch.empty(len(kept), dtype=torch.float64)
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(len(kept)))
    for group in shuffled.tensor_split(-(-len(kept) // GROUP)):
        distance[group] = neighbour_distance(rows[group], NEIGHBOUR)
    ratio = (distance / distance.median().clamp_min(1e-12)).numpy()
    far = np.flatnonzero(far_out(distance).numpy())
    for place in far[np.argsort(-ratio[far], kind="stable")].tolist():
        about = f"its {NEIGHBOUR} nearest images are {ratio[place]:.1f} times as far as usual"
        yield Finding(int(measured.indices[kept[place]]), UNLIKE, about, float(ratio[place]))


def _look(measured: Measured, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return what images look like without any network, (n, 68), 0..1: luminance of 8 x 8 parts, colour, detail."""
    thumbnails = measured.thumbnails[rows]
    part = thumbnails.shape[1] // 8
    parts = thumbnails.reshape(len(rows), 8, part, 8, part).mean((2, 4), dtype=np.float32).reshape(len(rows), 64)
    contrast = thumbnails.std((1, 2), dtype=np.float32)[:, None]
    detail = np.abs(np.diff(thumbnails.astype(np.float32), axis=2)).mean((1, 2))[:, None]
    # each of the four counts like the luminance of all parts
    found = np.concatenate([parts, 8 * measured.colours[rows, 1:], 8 * contrast, 8 * detail], 1)
    return (found / 255).astype(np.float32)


def _quality(measured: Measured) -> Iterator[Finding]:
    checks: tuple[tuple[str, quality.Flagged, Callable[[int, float], str]], ...] = (
        (BLURRED, quality.blurred(measured), lambda row, value: f"sharpness {value:.3f}"),
        (DARK, quality.dark(measured), lambda row, value: f"its bright parts have {100 * value:.0f} % of white"),
        (UNIFORM, quality.nearly_uniform(measured), lambda row, value: f"luminance varies by {value:.1f} of 255"),
        (SIZE, quality.small(measured), lambda row, value: _size(measured, row)),
        (SHAPE, quality.long(measured), lambda row, value: f"{_size(measured, row)}: {value:.1f} to 1"),
    )
    for kind, flagged, words in checks:
        for place in np.argsort(flagged.values if kind != SHAPE else -flagged.values, kind="stable").tolist():
            row, value = int(flagged.rows[place]), float(flagged.values[place])
            yield Finding(int(measured.indices[row]), kind, words(row, value), value)


def _size(measured: Measured, row: int) -> str:
    return f"{measured.widths[row]} x {measured.heights[row]}"
