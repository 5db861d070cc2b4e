"""Groups of runs that differ in their seed alone: their scores, and what these depend on."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from gemel.reports.method_facts import MethodFacts, method_facts, section_name
from gemel.reports.run_summary import flat, read_or_report, run_names
from gemel.runs.run import Run

REPETITION = ("seed", "workers", "threads", "checkpoint_seconds", "log", "max_rejected")
"""settings in which two runs of a group may differ"""
RESOLVED = ("recipe", "split", "crop", "image_size")
"""rules of a protocol beside its options, as they were in force"""
DATA_AND_OUTCOMES = (
    *("data", "root", "labels", "network", "backbone", "width", "rejected", "mean", "std", "images", "seed"),
    *("sets", "strength", "chosen_on", "fitted", "judged", "bank", "queries", "classes", "head_width", "last_batch"),
    *("label_classes", "unreadable", "silhouette", "rankme_limit", "classes_left_out"),
    *("seconds", "predictions", "comparable", "parameters", "strides", "anchor_sizes", "device", "class_iou"),
    *("confusion", "unreadable_judged", "classes_without_truth", "classes_not_in_training"),
    *("annotations_left_out", "crowds_left_out"),
)
"""keys of an evaluation's settings that are no rules: on which data, and with which outcome"""
COUNTS = ("_images", "_without_label")
"""ends of further such keys"""
IN_THE_METRIC = ("transfer", "transfer-finetune")
"""protocols whose scores name the data set"""
NO_SCORES = ("lr", "best_epoch")
"""numbers beside an evaluation's scores; lr_RATE_top1 are those of rates that were not chosen"""
MOST_NAMED = 3
"""settings in the name of a group; where more differ it is named by its folder"""


class Column(NamedTuple):
    """A score: of which protocol, and with which options where a run has several results of it."""

    protocol: str
    metric: str
    options: str = ""

    def __str__(self) -> str:
        name = f"{self.protocol} {self.metric}"
        return f"{name} ({self.options})" if self.options else name


class Group(NamedTuple):
    """Runs of the same settings with several seeds."""

    name: str
    runs: tuple[Run, ...]
    settings: Mapping[str, Any]
    """of the first run"""
    method: MethodFacts
    seeds: tuple[Any, ...]
    unfinished: tuple[Run, ...]
    """those without any score"""
    scores: Mapping[Column, tuple[float, ...]]
    protocols: Mapping[Column, Mapping[str, Any]]
    """the settings of the evaluation that each column comes from"""

    @property
    def network(self) -> str:
        """The backbone's name."""
        return section_name(self.settings.get("backbone")) or "?"

    @property
    def data(self) -> str:
        """The data set, or the folder's name."""
        return Path(str(self.settings.get("images"))).name


class _Member(NamedTuple):
    """A run as far as a comparison reads it."""

    run: Run
    settings: Mapping[str, Any]
    method: MethodFacts
    results: list[dict[str, Any]]


def groups_of(runs: Sequence[Run], problems: list[str]) -> list[Group]:
    """Group runs by their settings, in the order of each group's first run.

    Args:
        runs: of which settings, results and the method's description are read.
        problems: takes the messages of damaged files, which are left out.

    Raises:
        UserError: a run.yaml is damaged.
    """
    gathered: dict[str, list[_Member]] = {}
    for run in runs:
        settings = run.settings
        environment = read_or_report(lambda run=run: run.environment, {}, problems)
        facts = method_facts(settings, environment)
        same = {key: value for key, value in settings.items() if key not in REPETITION}
        member = _Member(run, settings, facts, run.evaluations(problems.append))
        gathered.setdefault(json.dumps(same, sort_keys=True, default=str), []).append(member)
    names = _names(list(gathered.values()))
    split: dict[str, dict[str, None]] = {}
    for members in gathered.values():
        for protocol, keys in _told_apart([member.results for member in members]).items():
            split.setdefault(protocol, {}).update(dict.fromkeys(keys))
    return [_group(name, members, split) for name, members in zip(names, gathered.values(), strict=True)]


def rules_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of an evaluation's settings that are rules of its protocol: its options where they are recorded.

    >>> rules_of({"options": {"k": [20], "sample": 50000}, "split": "leave one out", "bank": 1797})
    {'k': 20, 'sample': 50000, 'split': 'leave one out'}
    >>> rules_of({"k": 20, "data": "digits", "rejected": 0, "test_images": 360})
    {'k': 20}
    >>> rules_of({"kmeans": 10, "label_classes": 10})
    {'kmeans': 'as many as labels'}
    """
    rules, options = dict(settings), settings.get("options")
    if isinstance(options, Mapping):
        rules = dict(options) | {key: settings[key] for key in RESOLVED if key in settings}
    rules = {key: value for key, value in rules.items() if key not in DATA_AND_OUTCOMES and not key.endswith(COUNTS)}
    if rules.get("kmeans") in (0, settings.get("label_classes")) and "kmeans" in rules:
        rules["kmeans"] = "as many as labels"
    return {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in rules.items()}


def _group(name: str, members: Sequence[_Member], split: Mapping[str, Iterable[str]]) -> Group:
    scores: dict[Column, tuple[float, ...]] = {}
    protocols: dict[Column, Mapping[str, Any]] = {}
    for member in members:
        own: dict[Column, float] = {}  # the same question, answered twice, is one value
        for result in member.results:
            asked = result["settings"] | rules_of(result["settings"])
            options = ", ".join(f"{key} {asked.get(key)}" for key in split.get(result["protocol"], ()))
            for metric, value in result["metrics"].items():
                if metric not in NO_SCORES and not metric.startswith("lr_"):
                    column = Column(result["protocol"], metric, options)
                    own[column] = float(value)
                    protocols.setdefault(column, result["settings"])
        for column, value in own.items():
            scores[column] = (*scores.get(column, ()), value)
    first = members[0]
    return Group(
        name,
        tuple(member.run for member in members),
        first.settings,
        first.method,
        tuple(member.settings.get("seed", 0) for member in members),
        tuple(member.run for member in members if not member.results),
        scores,
        protocols,
    )


def _told_apart(evaluations: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[str]]:
    """Return for each protocol the options that tell its results apart: those of one run, and those of repetitions.

    Repetitions may be judged with seeds of their own; the results of one run with several seeds are several.
    """
    asked: dict[str, list[dict[str, Any]]] = {}
    for number, results in enumerate(evaluations):
        for result in results:
            settings = result["settings"]
            beside = {key: settings.get(key) for key in ("data", "labels") if result["protocol"] not in IN_THE_METRIC}
            seed = {"seed": settings.get("seed")}
            asked.setdefault(result["protocol"], []).append(rules_of(settings) | beside | seed | {"run": number})
    return {protocol: _telling(each) for protocol, each in asked.items()}


def _telling(asked: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the first keys that tell apart whatever differs, each only where those before it do not."""
    chosen: list[str] = []
    alike = list(combinations(asked, 2))
    for key in dict.fromkeys(key for one in asked for key in one if key != "run"):
        differing = [
            (one, other)
            for one, other in alike
            if one.get(key) != other.get(key) and (key != "seed" or one["run"] == other["run"])
        ]
        if differing:
            chosen.append(key)
            alike = [(one, other) for one, other in alike if one.get(key) == other.get(key)]
    return chosen


def _names(groups: Sequence[Sequence[_Member]]) -> list[str]:
    """Name each group by its method and the settings that tell it from the others; else by its first run's folder."""
    each = [dict(flat(members[0].settings)) for members in groups]
    titles = [members[0].method.title for members in groups]
    peers = [[other for other, title in zip(each, titles, strict=True) if title == own] for own in titles]
    names: list[str] = []
    for settings, title, alike in zip(each, titles, peers, strict=True):
        keys = [key for key in settings if key not in REPETITION]
        differing = [key for key in keys if len({other.get(key) for other in alike}) > 1]
        told = [f"{key} {Path(settings[key]).name if key == 'images' else settings[key]}" for key in differing]
        names.append(", ".join([title, *told]) if len(told) <= MOST_NAMED else "")
    folders = run_names([members[0].run.path for members in groups])
    return [name if name and names.count(name) == 1 else folder for name, folder in zip(names, folders, strict=True)]
