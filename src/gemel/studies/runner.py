"""Make the runs of a study one by one: finished ones stay, interrupted ones are resumed, missing ones started."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gemel.errors import Diverged, UserError
from gemel.reports.formatting import duration
from gemel.runs.files import read_json, write_text
from gemel.runs.run import RUN_FILE, Run
from gemel.settings.tree import Layer, layer_of_call
from gemel.studies.base import NUMBERS, OWN_SEED, Computed, Study
from gemel.studies.checks import Row
from gemel.studies.outcome import Outcome
from gemel.studies.plan import Planned, StudyLaunch, check_against_earlier, check_settings, plan, remember

Say = Callable[[str], None]

Train = Callable[[Path, Sequence[Layer]], object]
"""brings the run of a folder to its end: resumes what is there, else starts it with these layers of settings"""


def run_study(name: str, study: Study, launch: StudyLaunch, overrides: Layer, say: Say, train: Train) -> Outcome:
    """Make the missing runs of a study, read all, and write its table, plot and page.

    Args:
        name: of the study, and of the files it writes.
        study: its runs, columns and checks.
        launch: number of seeds, scale, folders.
        overrides: settings of the user, for all runs.
        say: takes a line about each run.
        train: makes one run.

    Raises:
        UserError: a setting is wrong, or the folder is a run's or holds runs of other settings; nothing is written
            then.
        Interrupted: a signal ended a run; the runs are kept, and the tables of them are written.
    """
    out = Path(launch.out or Path("runs") / "studies" / name)
    if (out / RUN_FILE).is_file():
        raise UserError(f"--out {out} holds a run; a study needs a folder of its own, name another")
    planned = plan(study, launch, out, overrides)
    check_settings(planned, study)
    check_against_earlier(planned, out)
    if study.compute is not None and overrides.values:
        raise UserError(f"{name} is computed without runs; leave out {', '.join(overrides.values)}")
    if launch.dry_run:
        for one in planned:
            say(f"{one.folder}: " + ", ".join(f"{key} {value}" for key, value in one.asked.items()))
        return outcome_of(name, study, launch, overrides, planned, out)
    remember(planned, out)
    seconds: dict[str, float] = {}
    try:
        for number, one in enumerate(planned, start=1):
            started = time.perf_counter()
            done = _complete(one, study, out, train)
            if done != "was there":
                seconds[one.variation.name] = time.perf_counter() - started
            left = _left([later for later in planned[number:] if not _finished(later.folder)], seconds)
            say(f"[{number}/{len(planned)}] {one.variation.name}, seed {one.seed}: {done}{left}")
    finally:
        outcome = outcome_of(name, study, launch, overrides, planned, out)
        outcome.write(out, Path(launch.tables or out))
    return outcome


def outcome_of(
    name: str, study: Study, launch: StudyLaunch, overrides: Layer, planned: Sequence[Planned], out: Path
) -> Outcome:
    """Read every finished run of the plan; no torch."""
    rows: list[Row] = []
    for variation in dict.fromkeys(one.variation.name for one in planned):
        members = [one for one in planned if one.variation.name == variation]
        folders = [one.folder for one in members if _finished(one.folder)]
        runs = [Run(folder) if study.compute is None else Computed(folder) for folder in folders]
        values = {column.name: column.values(runs) for column in study.columns}
        about, trained = members[0].variation, [run for run in runs if isinstance(run, Run)]
        curves = {curve.name: curve.values(trained) for curve in study.curves}
        rows.append(Row(variation, about.line, about.x, values, about.group, curves))
    finished = [one.folder for one in planned if _finished(one.folder)]
    return Outcome(name, study, launch, overrides, tuple(rows), tuple(finished), _failed(out))


def _complete(one: Planned, study: Study, out: Path, train: Train) -> str:
    """Bring one run to its end, and evaluate it by the study's protocols; return what was done."""
    key = str(one.folder.relative_to(out))
    if key in _failed(out) and one.folder.is_dir():
        return f"diverged before ({_failed(out)[key]}); delete {one.folder} to try again"
    started = time.perf_counter()
    found = _finished(one.folder)
    try:
        if not found and study.compute is not None:
            write_text(one.folder / NUMBERS, json.dumps(study.compute(seed=one.seed, **one.variation.settings)))
        elif not found:
            _train(one, train)
    except Diverged as error:  # a result too: the table shows it, and the other runs are made
        write_text(out / "failed.json", json.dumps(_failed(out) | {key: str(error)}, indent=1))
        return f"diverged: {error}"
    judged = [protocol for protocol, options in study.evaluations if _judge(one, protocol, options)]
    return "was there" if found and not judged else f"done in {duration(time.perf_counter() - started)}"


def _train(one: Planned, train: Train) -> None:
    if one.folder.is_dir() and not (one.folder / RUN_FILE).is_file():
        for part in one.folder.glob(".*.part"):  # a process died while it wrote its first file
            part.unlink()
    train(one.folder, (*one.layers, layer_of_call({"out": one.folder, "seed": one.seed})))


def _judge(one: Planned, protocol: str, options: Mapping[str, Any]) -> bool:
    """Evaluate, unless the same question was answered before; return whether it was evaluated."""
    from gemel.evaluations.run_protocol import evaluate

    asked = {key: value for key, value in options.items() if key not in ("images", "test", "labels")}
    asked = {key: one.seed if value == OWN_SEED else value for key, value in asked.items()}
    network, settings = _network(asked)
    run = Run(one.folder)
    if network == "pixels" and run.backbone_facts["name"] == "vectors":  # there are none
        return False
    for result in run.evaluations(network=network):
        if result["protocol"] == protocol and settings.items() <= result["settings"].items():
            return False
    images, test, labels = (options.get(key) for key in ("images", "test", "labels"))
    evaluate(one.folder, protocol, images, test=test, labels=labels, quiet=True, options=asked)
    return True


def _network(asked: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the name of the network that is judged, as in `Run.evaluations`, and the other settings."""
    settings = {key: value for key, value in asked.items() if key not in ("network", "network_seed")}
    name = asked.get("network", "trained")
    return (f"random-{asked.get('network_seed', 0)}" if name == "random" else name), settings


def _finished(folder: Path) -> bool:
    return (folder / NUMBERS).is_file() or ((folder / RUN_FILE).is_file() and Run(folder).is_finished)


def _failed(out: Path) -> dict[str, str]:
    file = out / "failed.json"
    return read_json(file) if file.is_file() else {}


def _left(missing: Sequence[Planned], seconds: Mapping[str, float]) -> str:
    """Return how long the missing runs will take, by those that were made."""
    if not missing or not seconds:
        return ""
    mean = sum(seconds.values()) / len(seconds)
    return f", about {duration(sum(seconds.get(one.variation.name, mean) for one in missing))} left"
