"""Evaluation: what a network is worth, by a named protocol; Subject: the network; Result: numbers and settings."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import nn

from gemel.data.sources import Source
from gemel.methods.base import Method
from gemel.runs.run import write_text

LIBRARIES = ("timm", "torchvision")
"""whose networks are judged by `LIBRARY:NAME`"""

Progress = Callable[[int, int], None]
"""(done, of how many) after each batch or step"""


@dataclass(frozen=True)
class Subject:
    """The network that is judged, and where what is found goes.

    Args:
        network: normalised floats (B, 3, H, W) to (B, width); a Backbone where there is one.
        facts: as in backbone.json: name, options, width, size, mean, std, views (photo or glyph).
        name: in words: "runs/x (twist, resnet18)", "random resnet18 (seed 0)", "raw pixels", "timm resnet50".
        folder: the run's, or another; evaluations/ and cache/ lie in it.
        method: whose classes are judged too; None: there are none.
        is_random: its weights are fresh, never trained.
    """

    network: nn.Module
    facts: Mapping[str, Any]
    name: str
    folder: Path
    method: Method | None = None
    is_random: bool = False


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
        """PROTOCOL-<hash of data and settings>: the same question is answered in the same place.

        Which run it is says the folder, by whatever path it was named; what a library's network is says only the name.
        """
        library = str(self.settings.get("backbone", "")).partition(":")[0] in LIBRARIES
        asked = {key: value for key, value in self.settings.items() if key != "network" or library}
        text = json.dumps(asked, sort_keys=True, default=str)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def write(self, folder: Path) -> Path:
        """Keep the result as FOLDER/evaluations/PROTOCOL-HASH.json."""
        path = folder / "evaluations" / f"{self.file_name}.json"
        write_text(path, json.dumps(self.as_json(), indent=2))
        return path


class Evaluation(ABC):
    """A protocol; keyword-only arguments of a subclass are its settings, as with methods."""

    takes_images: ClassVar[bool] = True
    """False: it opens data sets of its own, and `run` is given no image"""

    @abstractmethod
    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Metrics (shares of 1), and every default in force: split, crop, seed, numbers used.

        Args:
            subject: the network. A frozen protocol leaves it as it was; others train a copy.
            train: images that the protocol may fit on.
            test: images that it is judged by; None: the protocol's own rule (see `splits.hold_out`).
            tell: told how far it is.

        Raises:
            UserError: the data do not allow it.
        """
