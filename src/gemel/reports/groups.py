"""Runs that differ in their seed alone are one group: its scores with their spread, and what they depend on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gemel.reports.sections import flat, run_names
from gemel.reports.words import method_name
from gemel.runs import Run

NOT_OF_THE_RESULT = ("seed", "workers", "threads", "checkpoint_seconds", "log", "max_rejected")
"""settings that two runs of a group may differ in"""
MOST_NAMED = 3
"""A name of more settings than this is no name: the folder is."""


class Column(NamedTuple):
    """A score: of which protocol, by which options where one run was judged by several."""

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
    seeds: tuple[int, ...]
    scores: Mapping[Column, tuple[float, ...]]
    protocols: Mapping[Column, Mapping[str, Any]]
    """the settings of the evaluation that each column comes from"""

    @property
    def method(self) -> str:
        """The method's name, as in its file's."""
        return str(self.settings["method"]["name"])

    @property
    def network(self) -> str:
        """The backbone's name."""
        return str((self.settings.get("backbone") or {}).get("name", "?"))

    @property
    def data(self) -> str:
        """The data set, or the folder's name."""
        return Path(str(self.settings.get("images"))).name


def groups_of(runs: Sequence[Run]) -> list[Group]:
    """Group runs by their settings, in the order of each group's first run.

    Raises:
        UserError: a run.yaml is damaged.
    """
    every = [(run, run.settings) for run in runs]
    gathered: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
    for run, settings in every:
        same = {key: value for key, value in settings.items() if key not in NOT_OF_THE_RESULT}
        gathered.setdefault(json.dumps(same, sort_keys=True, default=str), []).append((run, settings))
    names = _names(list(gathered.values()))
    split = _told_apart([run.evaluations() for run in runs])
    return [_group(name, members, split) for name, members in zip(names, gathered.values(), strict=True)]


def _group(name: str, members: Sequence[tuple[Run, dict[str, Any]]], split: Mapping[str, Sequence[str]]) -> Group:
    scores: dict[Column, tuple[float, ...]] = {}
    protocols: dict[Column, Mapping[str, Any]] = {}
    for run, _ in members:
        for result in run.evaluations():
            options = ", ".join(f"{key} {result['settings'].get(key)}" for key in split[result["protocol"]])
            for metric, value in result["metrics"].items():
                column = Column(result["protocol"], metric, options)
                scores[column] = (*scores.get(column, ()), float(value))
                protocols.setdefault(column, result["settings"])
    runs, settings = zip(*members, strict=True)
    return Group(name, runs, settings[0], tuple(int(one.get("seed", 0)) for one in settings), scores, protocols)


def _told_apart(evaluations: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[str]]:
    """Find for each protocol the options in which several results of one run differ."""
    found: dict[str, dict[str, None]] = {}
    for results in evaluations:
        for result in results:
            keys = found.setdefault(result["protocol"], {})
            others = [one for one in results if one["protocol"] == result["protocol"]]
            for key, value in result["settings"].items():
                if any(other["settings"].get(key) != value for other in others):
                    keys[key] = None
    return {protocol: list(keys) for protocol, keys in found.items()}


def _names(groups: Sequence[Sequence[tuple[Run, dict[str, Any]]]]) -> list[str]:
    """Name each group by its method and the settings that tell it from the others; else by its first run's folder."""
    each = [dict(flat(members[0][1])) for members in groups]
    methods = [method_name(Path(settings.get("method.name", "run")).stem) for settings in each]
    peers = [[other for other, name in zip(each, methods, strict=True) if name == own] for own in methods]
    names: list[str] = []
    for settings, method, alike in zip(each, methods, peers, strict=True):
        keys = [key for key in settings if key not in NOT_OF_THE_RESULT]
        differing = [key for key in keys if len({other.get(key) for other in alike}) > 1]
        told = [f"{key} {Path(settings[key]).name if key == 'images' else settings[key]}" for key in differing]
        names.append(", ".join([method, *told]) if len(told) <= MOST_NAMED else "")
    folders = run_names([members[0][0].path for members in groups])
    return [name if name and names.count(name) == 1 else folder for name, folder in zip(names, folders, strict=True)]
