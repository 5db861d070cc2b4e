"""Which of several runs to take, told without labels, from the maps of the same images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gemel.errors import UserError
from gemel.metrics.agreement import agreement
from gemel.reports.seed_groups import Group

LEAST, FEW = 3, 8
"""groups of runs below which nothing is told, and below which it is a hint"""
NAMED = 5
"""groups that are named"""
LEAST_IMAGES = 40
"""images of a map, at least"""


class _Near(NamedTuple):
    """A map's nearest neighbours, by the place of an image among the images of the map in the order of the source."""

    indices: NDArray[np.int64]
    """(N,) in the source, rising"""
    paths: tuple[str, ...]
    neighbours: NDArray[np.int64]
    """(N, k)"""


def advice(groups: Sequence[Group], problems: list[str]) -> str:
    """Return in a sentence which run's neighbours agree best with the kinds that all runs see; "" where none can tell.

    Of each group the first run counts that has a map. All maps must be of the same images.

    Args:
        groups: of runs.
        problems: damaged maps are named here.
    """
    found = [(group.name, near) for group in groups if (near := _first(group, problems)) is not None]
    ours = [near for _, near in found]
    if (
        len(ours) < LEAST
        or len(ours[0].indices) < LEAST_IMAGES
        or any(_images(one) != _images(ours[0]) for one in ours)
    ):
        return ""
    scores = agreement([one.neighbours for one in ours])
    ranked = sorted(zip(scores.tolist(), (name for name, _ in found), strict=True), reverse=True)
    told = "; ".join(f"{name}: {100 * score:.1f}" for score, name in ranked[:NAMED])
    hint = ", a hint only, as there are few" if len(ours) < FEW else ""
    return (
        f"Without labels, {ranked[0][1]} is the one to take{hint}: its neighbours agree best with the kinds that all "
        f"of them see, in per cent of the images ({told})."
    )


def _first(group: Group, problems: list[str]) -> _Near | None:
    for run in group.runs:
        try:
            table = run.map()
        except UserError as error:
            problems.append(str(error))
            continue
        if table is not None and table.num_rows:
            return _near(table)
    return None


def _near(table: pa.Table) -> _Near:
    indices = table["index"].to_numpy()
    order = np.argsort(indices, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    lists = table["neighbours"].combine_chunks()
    rows = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(order), -1)  # pyright: ignore
    return _Near(indices[order], tuple(table["path"].take(pa.array(order)).to_pylist()), place[rows[order]])


def _images(near: _Near) -> tuple[object, ...]:
    return near.indices.tobytes(), near.paths, near.neighbours.shape
