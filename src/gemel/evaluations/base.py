"""Evaluation: what a network's features are worth, by a named protocol."""

import hashlib
import json
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gemel.errors import UserError
from gemel.evaluations.features import Seen


class Result(NamedTuple):
    """Numbers, and everything that they depend on."""

    name: str
    metrics: dict[str, float]
    settings: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """What evaluations/PROTOCOL-HASH.json holds."""
        return {"protocol": self.name, "metrics": self.metrics, "settings": self.settings}

    @property
    def file_name(self) -> str:
        """PROTOCOL-<hash of data and settings>: the same question is answered in the same place."""
        text = json.dumps(self.settings, sort_keys=True, default=str)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class Evaluation(ABC):
    """A protocol; keyword-only arguments of a subclass are its settings, as with methods."""

    @abstractmethod
    def run(self, train: Seen, test: Seen | None) -> tuple[dict[str, float], dict[str, Any]]:
        """Metrics, and the defaults in force (split, numbers used).

        Args:
            train: features that the protocol may fit on.
            test: features that it is judged by; None: the protocol's own rule.

        Raises:
            UserError: the data do not allow it.
        """


def labelled(seen: Seen) -> tuple[Tensor, Tensor]:
    """Features and labels of the images whose label is known.

    Raises:
        UserError: fewer than two, or features that are not finite.
    """
    labels = seen.labels
    known = np.zeros(0, bool) if labels is None else labels >= 0
    if labels is None or known.sum() < 2:
        raise UserError(
            f"{seen.source.name} has {int(known.sum())} labels; give --labels folders (the first folder below it) "
            "or --labels FILE.csv (path,label)"
        )
    features = seen.features[torch.from_numpy(known)]
    if not bool(torch.isfinite(features).all()):
        raise UserError("the features hold numbers that are not finite; the training diverged")
    return features, torch.from_numpy(labels[known])
