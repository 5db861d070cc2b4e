"""Evaluation: what a network is worth, by a named protocol; Subject: the network; Result: numbers and settings."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from tempfile import gettempdir
from typing import Any, ClassVar, NamedTuple, Self

from torch import Tensor, nn

from gemel.data.listing import cache_folder
from gemel.data.sources import Source
from gemel.hashing import hash_of_question
from gemel.methods.base import Method
from gemel.runs.files import write_text

LIBRARIES = ("timm", "torchvision")
"""whose networks are judged by `LIBRARY:NAME`"""

HASHED = ("options", "fingerprints")
"""options of the protocol as they were asked for, and which images they are: beside the settings in a result's file"""

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
        has_own_input: the method's classes are of its own encoder's view of the features (heads on a frozen network).
        is_random: its weights are fresh, never trained.
        why_no_method: why a run's method is not there, in a sentence; empty: the network has none.
    """

    network: nn.Module
    facts: Mapping[str, Any]
    name: str
    folder: Path
    method: Method | None = None
    has_own_input: bool = False
    is_random: bool = False
    why_no_method: str = ""

    def classify(self, features: Tensor) -> Tensor | None:
        """Return class probabilities (B, C) of the network's features (B, width); None without classes."""
        if self.method is None:
            return None
        return self.method.classify(self.method.encoder()(features) if self.has_own_input else features)


def frozen_subject(network: nn.Module, facts: Mapping[str, Any]) -> Subject:
    """Return a frozen network by itself; what it sees is kept in the user's cache."""
    folder = cache_folder() or Path(gettempdir()) / "gemel"
    kind = hash_of_question([facts["name"], facts["size"]], 12)
    return Subject(network, facts, f"frozen {facts['name']}", folder / "features" / kind)


class Result(NamedTuple):
    """Numbers, and everything that they depend on."""

    name: str
    metrics: dict[str, float]
    asked: dict[str, Any]
    """the question: data, network, and `HASHED`"""
    found: dict[str, Any]
    """every default in force, and what came out beside the metrics: counts, the best epoch, the chosen rate"""

    @property
    def settings(self) -> dict[str, Any]:
        """What was asked, and what was found, which tells every option too."""
        return {key: value for key, value in self.asked.items() if key not in HASHED} | self.found

    def as_json(self) -> dict[str, Any]:
        """Return what evaluations/PROTOCOL-HASH.json holds."""
        question = {key: self.asked[key] for key in HASHED if key in self.asked}
        return {"protocol": self.name, "metrics": self.metrics, "settings": self.settings} | question

    @property
    def file_name(self) -> str:
        """PROTOCOL-<hash of the question>: the same question is answered in the same place.

        The folder says which run it is, whatever path named it; of a library's network only its name says which.
        """
        library = str(self.asked.get("backbone", "")).partition(":")[0] in LIBRARIES
        question = {key: value for key, value in self.asked.items() if key != "network" or library}
        return f"{self.name}-{hash_of_question(question, 12)}"

    def write(self, folder: Path) -> Path:
        """Keep the result as FOLDER/evaluations/PROTOCOL-HASH.json."""
        path = folder / "evaluations" / f"{self.file_name}.json"
        write_text(path, json.dumps(self.as_json(), indent=2, default=str))  # folders are among the options
        return path


class Evaluation(ABC):
    """A protocol; keyword-only arguments of a subclass are its settings, as with methods."""

    takes_images: ClassVar[bool] = True
    """False: it opens datasets of its own, and `run` is given no image"""

    any_class: ClassVar[bool] = False
    """whether the test images may be of classes that the training images lack"""

    options: dict[str, Any]
    """the settings, defaults included"""

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Note the settings: they are part of a result's question."""
        made = super().__new__(cls, *args)
        defaults = {name: one.default for name, one in signature(cls).parameters.items()}
        made.options = defaults | options
        return made

    @abstractmethod
    def run(
        self, subject: Subject, train: Source, test: Source | None, *, tell: Progress | None
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Return metrics (shares of 1), and every default in force: split, crop, seed, numbers used.

        Args:
            subject: the network. A frozen protocol leaves it as it was; others train a copy.
            train: images that the protocol may fit on.
            test: images that it is judged by, none of which is in `train`; None: the protocol's own rule (see
                `splits.hold_out`).
            tell: told how far it is.

        Raises:
            UserError: the data do not allow it.
        """
