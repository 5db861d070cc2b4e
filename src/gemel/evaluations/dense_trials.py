"""What detection and segmentation share: trials and what is kept of each, comparability, pictures for the report."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from gemel.backbones.parts.stages import Stages
from gemel.data.dense.sets import DescribedSet
from gemel.distributed import world_size
from gemel.engine.processes import first_says
from gemel.errors import UserError
from gemel.evaluations.base import Progress, Subject
from gemel.hashing import hash_of_question, hash_of_tensors
from gemel.runs.files import write_text
from gemel.supervised.dense.recipes import Dense, departures

PICTURES = "pictures.json"
"""in the folder of a result: a few images with the truth and with what was found"""

SHOWN = 6
"""images in it"""

PUBLISHED_NETWORKS = ("resnet50", "timm:resnet50", "torchvision:resnet50")
"""whose results the papers print"""


class Trial(NamedTuple):
    """One fit and its judgement."""

    seed: int
    metrics: dict[str, float]
    facts: dict[str, Any]


class Place(NamedTuple):
    """Where a trial's files go."""

    cache: Path
    """the trial's numbers, once it is done"""
    folder: Path
    """log.csv, predictions and pictures"""

    def read(self, needed: Sequence[Path]) -> Trial | None:
        """Return a trial that is done; None where a file of it is missing or damaged."""
        try:
            kept = Trial(*json.loads(self.cache.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return kept if all(one.is_file() for one in needed) else None

    def write(self, trial: Trial) -> None:
        """Keep a trial, as the last of its files."""
        write_text(self.cache, json.dumps(trial))


def trials_of(
    subject: Subject,
    protocol: str,
    question: Mapping[str, Any],
    seeds: Sequence[int],
    run: Callable[[int, Place, Mapping[str, Any]], Trial],
    needed: Callable[[Place, int], Sequence[Path]],
) -> tuple[list[Trial], str]:
    """Return the trials, those of earlier calls from what they left, and the folder of their files below the subject's.

    Args:
        subject: in whose folder they are kept.
        protocol: names the folder, evaluations/PROTOCOL-KEY.
        question: everything that the outcome depends on, beside the seed.
        seeds: of the trials.
        run: makes one.
        needed: returns the files that the trial of a seed must have left.
    """
    key = hash_of_question(dict(question) | {"seeds": list(seeds)}, 12)
    folder = f"evaluations/{protocol}-{key}"
    found: list[Trial] = []
    for seed in seeds:
        own = dict(question) | {"seed": seed}
        inner = subject.folder / folder if len(seeds) == 1 else subject.folder / folder / f"trial-{seed}"
        place = Place(subject.folder / "cache/dense" / f"{hash_of_question(own)}.json", inner)
        kept = first_says(place.read(needed(place, seed)))
        found.append(run(seed, place, own) if kept is None else Trial(*kept))
    return found, folder


def question_of(
    subject: Subject, recipe: Dense, parts: Sequence[str], precision: str, more: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the outcome of a fit depends on, beside its seed."""
    return {
        "network": hash_of_tensors(subject.network.state_dict()),
        "facts": {key: subject.facts[key] for key in ("name", "mean", "std")},
        "recipe": recipe.model_dump(),
        "parts": list(parts),
        "precision": precision,
        "processes": world_size(),
        **more,
    }


def summary(trials: Sequence[Trial]) -> dict[str, float]:
    """Return the metrics; of several trials their means and, NAME_std, their deviations (n - 1).

    >>> found = summary([Trial(0, {"ap": 0.5}, {}), Trial(1, {"ap": 0.7}, {})])
    >>> round(found["ap"], 6), round(found["ap_std"], 6)
    (0.6, 0.141421)
    """
    if len(trials) == 1:
        return trials[0].metrics
    values = {name: [one.metrics[name] for one in trials if name in one.metrics] for name in trials[0].metrics}
    means = {name: statistics.fmean(each) for name, each in values.items()}
    return means | {f"{name}_std": statistics.stdev(each) for name, each in values.items() if len(each) > 1}


def check_network(network: nn.Module, batch_size: int) -> None:
    """Check that a detector or segmenter can stand on a network, and that processes can share a batch.

    Raises:
        UserError: with what does not fit.
    """
    mistakes: list[str] = []
    if batch_size % world_size():
        mistakes.append(f"--batch-size {batch_size} is no multiple of the {world_size()} processes; choose one")
    try:
        Stages(network)
    except UserError as error:
        mistakes += error.mistakes
    if mistakes:
        raise UserError(*mistakes)


def comparable(
    subject: Subject,
    name: str,
    numbers: tuple[Dense, Dense],
    described: DescribedSet,
    counts: tuple[int, int],
    precision: str,
) -> str:
    """Return yes, or no and every reason why the result is not like the printed ones.

    Args:
        subject: the network.
        name: of the recipe.
        numbers: those in force, and the recipe's.
        described: the set.
        counts: images learned from and judged.
        precision: of the network's arithmetic.
    """
    reasons = departures(*numbers)
    if name == "small":
        reasons.insert(0, "recipe small is no paper's")
    if not any(described.counts) or described.name in ("digit-scenes", "voc2007", "voc2012"):
        reasons.insert(0, f"no paper prints {described.name}")
    elif counts != described.counts:
        own, other = (" and ".join(f"{one:,}" for one in each) for each in (counts, described.counts))
        reasons.append(f"part of the set: {own} images to learn from and to be judged by, published {other}")
    if subject.facts["name"] not in PUBLISHED_NETWORKS or subject.facts.get("options", {}).get("stem") == "small":
        reasons.append(f"network {subject.facts['name']}, published resnet50")
    if precision != "32":
        reasons.append(f"precision {precision}")
    return f"no: {'; '.join(reasons)}" if reasons else "yes"


def say(tell: Progress | None, scaled: str, missing: Sequence[str]) -> None:
    """Print what was scaled, and which judged classes are not learned, where anything is to be printed."""
    if tell is not None and scaled:
        print(f"scaled to what was given from {scaled}")
    if tell is not None and missing:
        print(f"{len(missing)} classes are judged that no training image shows: {', '.join(missing)}")


def told(tell: Progress | None, trial: int, trials: int, each: int) -> Callable[[int], None]:
    """Return what is told how far one of several trials is, in steps and judged images."""

    def note(done: int) -> None:
        if tell is not None:
            tell(trial * each + done, trials * each)

    return note
