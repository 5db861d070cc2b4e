"""Prepared: a run that is ready to start; the request makes it, training takes it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from gemel.backbones.base import Backbone
from gemel.data.plan import Plan
from gemel.data.sources import Source, VectorSource
from gemel.data.sources.identity import fingerprint
from gemel.device import device
from gemel.launcher import launched
from gemel.methods.base import Method
from gemel.runs.folder import Claim
from gemel.settings.tree import Settings
from gemel.training.kinds import Kinds


def without(source: Source, left_out: Iterable[int]) -> Source:
    """Return a source without the images at these indices."""
    indices = np.setdiff1d(np.arange(len(source)), np.fromiter(left_out, np.int64))
    return source if len(indices) == len(source) else source.subset(indices)


@dataclass
class Prepared:
    """A run that is ready to start.

    Args:
        settings: without gaps.
        source: the images.
        method: on its backbone, with its first weights.
        left_out: duplicates, which play no part in training: index of each, and of the image that stays; else empty.
        claim: the run's folder, not made yet; only the first of several processes has one, and a resumed run none.
        frozen: the network whose features heads learn from; None where the network itself learns, or there is none.
        kinds: how many there seem to be; None where the number of classes was given.
        vectors: what heads learn from: the frozen network's features, or the given vectors; None without such heads.
    """

    settings: Settings
    source: Source
    method: Method
    left_out: Mapping[int, int] = field(default_factory=dict[int, int])
    claim: Claim | None = None
    frozen: Backbone | None = None
    vectors: VectorSource | None = None
    kinds: Kinds | None = None

    @cached_property
    def learned(self) -> Source:
        """The images that are trained on."""
        return without(self.source, self.left_out)

    @property
    def identity(self) -> str:
        """Which images they are; see `fingerprint`."""
        return fingerprint(self.source)

    @property
    def plan(self) -> Plan:
        """What this process draws at every step of the first stage."""
        chosen = self.settings
        assert chosen.views is not None and chosen.batch_size is not None
        # The launcher's word: here the processes need not have met yet.
        here = launched()
        return Plan(
            self.learned if self.vectors is None else self.vectors,
            chosen.views,
            chosen.image_size or 0,
            chosen.seed,
            chosen.batch_size,
            rank=here.rank,
            processes=here.processes,
            on_device=device().type == "cuda",
        )
