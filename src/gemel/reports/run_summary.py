"""A run in words and numbers: verdict, key figures, scores, settings."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from gemel.errors import UserError
from gemel.metrics.health import Finding, health
from gemel.reports.bottleneck_section import Bottleneck, bottleneck_section
from gemel.reports.charts.curves import Chart, Log, charts, read_log
from gemel.reports.check_section import CheckSection, check_section
from gemel.reports.class_gallery import Classes, Gallery, Neighbourhood, classes_of, neighbourhoods_of, read_gallery
from gemel.reports.dense_section import DenseSection, dense_sections
from gemel.reports.formatting import number, percent, score, score_name, sentence, words
from gemel.reports.kinds_section import KindsSection, kinds_section
from gemel.reports.live_section import LiveSection, live_section
from gemel.reports.method_facts import method_facts, section_name
from gemel.reports.other_ways import other_ways
from gemel.runs.class_names import read_names
from gemel.runs.live import read_live
from gemel.runs.run import CHECK, EXPLORER, GALLERY, LIVE, Run

T = TypeVar("T")

MOST_REJECTED = 100
VERDICTS = {"bad": "Not usable", "warning": "Worth a look", "good": "Healthy"}
"""titles by the gravest finding, the gravest first"""
HEADLINES = ("acc", "accuracy", "top1", "mean_per_class", "nmi", "ap", "miou")
"""scores that stand for an evaluation among the key figures; its first one, if it has none of these"""
PROBES = ("knn", "acc", "nmi")
WITHOUT_LABELS = ("rankme", "agreement", "class_agreement")
MOST_SCORES = 4
JUDGED = {"kmeans_": "k-means", "": "classes"}
"""what a score judges, by its prefix, where an evaluation judges two things"""


class Figure(NamedTuple):
    """A key figure: name, value, and a remark."""

    name: str
    value: str
    note: str = ""


class Verdict(NamedTuple):
    """What the measurements say about the run's health."""

    level: str
    title: str
    findings: tuple[Finding, ...]


class Score(NamedTuple):
    """One number of an evaluation; `part` is its length as a bar, where it is a fraction."""

    value: str
    part: float | None


class Scores(NamedTuple):
    """An evaluation's numbers and how it was done."""

    protocol: str
    about: str
    """on which images, and how they were split"""
    heads: tuple[str, ...]
    """what each column of numbers judges"""
    rows: tuple[tuple[str, tuple[Score, ...]], ...]
    settings: tuple[tuple[str, str], ...]


class Story(NamedTuple):
    """Everything that the page says about one run."""

    name: str
    folder: str
    live: LiveSection | None
    """None of a run that has ended"""
    explorer: str
    """name of the explorer's file beside the report; empty if there is none"""
    problems: tuple[str, ...]
    """damaged files, which are left out"""
    anchor: str
    title: str
    facts: tuple[str, ...]
    verdict: Verdict
    figures: tuple[Figure, ...]
    log: Log
    charts: tuple[Chart, ...]
    evaluations: tuple[Scores, ...]
    dense: tuple[DenseSection, ...]
    bottleneck: Bottleneck | None
    kinds: KindsSection | None
    other_ways: tuple[str, ...]
    """which way was better where heads, and a network of one's own, were both tried on these images"""
    classes: Classes | None
    neighbours: tuple[Neighbourhood, ...]
    check: CheckSection | None
    rejected_count: int
    rejected: tuple[Mapping[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    environment: tuple[tuple[str, str], ...]


def story(run: Run, name: str, index: int) -> Story:
    """Read a run's folder once; a damaged file is named, and costs its own section only.

    Raises:
        UserError: run.yaml is damaged.
    """
    settings, problems = run.settings, list[str]()
    environment: dict[str, Any] = read_or_report(lambda: run.environment, {}, problems)
    table = read_or_report(run.metrics, pa.table({}), problems)
    assigned = read_or_report(run.classes, None, problems)
    rejected = read_or_report(run.rejected, pa.table({}), problems)
    gallery = read_or_report(lambda: _gallery(run), Gallery(), problems)
    names: dict[int, str] = read_or_report(lambda: read_names(run), {}, problems)
    evaluations = run.evaluations(problems.append)
    method = method_facts(settings, environment)
    log = read_log(name, method, table, settings)
    classes = classes_of(gallery, assigned, log.classes, names)
    images = environment.get("images") or (assigned.num_rows if assigned is not None else 0)
    return Story(
        name=name,
        folder=str(run.path),
        live=read_or_report(lambda: live_section(run), None, problems),
        explorer=EXPLORER if run.explorer_path.is_file() else "",
        anchor=f"run{index}",
        title=f"{method.title} on {_images_name(settings)}",
        facts=tuple(_facts(settings, environment)),
        verdict=_verdict(health(_measured(table, log), method.advice)),
        figures=(
            *([Figure("Images", f"{images:,}")] if isinstance(images, int) and images else []),
            *_of_training(log, settings),
            *_of_classes(log, classes),
            *_of_scores(log, evaluations),
        ),
        log=log,
        charts=tuple(charts([log])),
        evaluations=tuple(_scores(evaluation) for evaluation in evaluations),
        dense=read_or_report(lambda: dense_sections(run, evaluations), (), problems),
        bottleneck=read_or_report(lambda: bottleneck_section(run), None, problems),
        kinds=read_or_report(lambda: kinds_section(run), None, problems),
        other_ways=other_ways(run),
        classes=classes,
        neighbours=tuple(neighbourhoods_of(gallery)),
        check=read_or_report(lambda: check_section(run.check(), run.path / CHECK), None, problems),
        rejected_count=rejected.num_rows,
        rejected=tuple(rejected.slice(0, MOST_REJECTED).to_pylist()),
        settings=tuple(flat(settings)),
        environment=tuple(flat({key: value for key, value in environment.items() if key != "method"})),
        problems=tuple(problems),
    )


def _gallery(run: Run) -> Gallery:
    """Return the pictures of the closing pass; of a run that has not come so far those of the newest probe."""
    found = run.gallery()
    if found is not None:
        return read_gallery(found, run.path / GALLERY)
    live = read_live(run)
    return read_gallery(None if live is None else live.gallery, run.path / LIVE)


def read_or_report(read: Callable[[], T], instead: T, problems: list[str]) -> T:
    """Return what is read; of a damaged file what stands for it, and its message goes to the problems."""
    try:
        return read()
    except UserError as error:
        problems.extend(error.mistakes)
        return instead


def flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield a tree of settings by dotted names, as the command line takes them."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        else:
            yield (
                f"{before}{key}",
                value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str),
            )


def differences(stories: Sequence[Story]) -> list[tuple[str, tuple[str, ...]]]:
    """Return the settings in which the runs differ."""
    each = [dict(story.settings) for story in stories]
    keys = dict.fromkeys(key for settings in each for key in settings)
    rows = [(key, tuple(settings.get(key, "–") for settings in each)) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def figure_table(stories: Sequence[Story]) -> tuple[list[str], list[tuple[Story, list[Figure]]]]:
    """Return the key figures of several runs side by side: the heads of the columns, and a row for each run."""
    heads = list(dict.fromkeys(figure.name for story in stories for figure in story.figures))
    rows: list[tuple[Story, list[Figure]]] = []
    for each in stories:
        own = {figure.name: figure for figure in each.figures}
        rows.append((each, [own.get(head, Figure(head, "–")) for head in heads]))
    return heads, rows


def run_names(paths: Sequence[Path]) -> list[str]:
    """Name each run by its folder, with as many folders above as it takes to tell them apart."""
    whole = [path.resolve().parts for path in paths]
    for length in range(1, max(len(parts) for parts in whole)):
        names = ["/".join(parts[-length:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    return [f"{path} ({number})" for number, path in enumerate(paths, start=1)]


def _images_name(settings: Mapping[str, Any]) -> str:
    """Return a folder's own name; its whole path stands among the settings."""
    images = str(settings.get("images") or "images")
    return Path(images).name or images


def _facts(settings: Mapping[str, Any], environment: Mapping[str, Any]) -> Iterator[str]:
    if backbone := section_name(settings.get("backbone")):
        yield backbone
    if size := settings.get("image_size"):
        yield f"{size} × {size} pixels"
    if batch := settings.get("batch_size"):
        yield f"batches of {batch}"
    if optimizer := section_name(settings.get("optimizer")):
        rate = settings["optimizer"].get("lr") if isinstance(settings["optimizer"], Mapping) else None
        yield f"{optimizer}, rate {rate}" if rate is not None else optimizer
    if (seed := settings.get("seed")) is not None:
        yield f"seed {seed}"
    if started := environment.get("started"):
        yield f"started {str(started)[:16].replace('T', ' ')}"


def _measured(table: pa.Table, log: Log) -> dict[str, list[Any]]:
    """Return the columns of numbers as they were written (a NaN is a finding, a null is none), and the stage."""
    return {name: table[name].to_pylist() for name in table.column_names if name in log.columns or name == "stage"}


def _verdict(findings: Sequence[Finding]) -> Verdict:
    gravity = list(VERDICTS)
    ordered = tuple(sorted(findings, key=lambda finding: gravity.index(finding.level)))
    return Verdict(ordered[0].level, VERDICTS[ordered[0].level], ordered)


def _last(log: Log, column: str) -> tuple[float, int] | None:
    """Return a column's last finite number and its row."""
    finite = np.flatnonzero(np.isfinite(log.columns.get(column, np.empty(0))))
    return (float(log.columns[column][finite[-1]]), int(finite[-1])) if len(finite) else None


def _of_training(log: Log, settings: Mapping[str, Any]) -> Iterator[Figure]:
    if epochs := settings.get("epochs"):
        yield Figure("Epochs", str(epochs), _how_far(log))
    if _last(log, "images_per_second"):
        middle = float(np.nanmedian(log.columns["images_per_second"]))
        waits = log.columns.get("data_wait", np.zeros(1))
        waits = f"; {percent(float(np.nanmedian(waits)))} of the time waiting for views" if waits.any() else ""
        yield Figure("Speed", number(round(middle, 1)), f"images/s, median{waits}")
    if loss := _last(log, "loss"):
        after = len(log.x) - 1 - loss[1]
        yield Figure("Final loss", number(loss[0], 3), "then not finite" if after > 1 else "")


def _how_far(log: Log) -> str:
    """Return how far a run came that did not reach its end."""
    progress = log.columns.get("progress", np.empty(0))
    progress = progress[np.isfinite(progress)]
    if not len(progress) or progress[-1] > 0.999:
        return ""
    return f"{percent(float(progress[-1]))} done" + (", last stage" if log.stages else "")


def _of_classes(log: Log, classes: Classes | None) -> Iterator[Figure]:
    probe = _last(log, "classes_used")
    used = len(classes.cards) + len(classes.others) if classes else int(probe[0]) if probe else None
    if used is not None:
        yield Figure("Classes used", str(used), f"of {log.classes}" if log.classes else "")


def _of_scores(log: Log, evaluations: Sequence[Mapping[str, Any]]) -> Iterator[Figure]:
    """Yield a score of each evaluation; of the probes where there is none, those without labels last."""
    found: dict[str, Figure] = {}
    for evaluation in evaluations:
        metrics: Mapping[str, float] = evaluation["metrics"]
        heads = [name for head in HEADLINES for name in metrics if name == head or name.endswith(f"_{head}")]
        name = next(iter([*heads, *metrics]), None)
        if name is not None and (protocol := sentence(words(evaluation["protocol"]))) not in found:
            found[protocol] = Figure(protocol, score(name, metrics[name]), score_name(name))
    if not found:
        found |= {name: figure for name in PROBES if (figure := _probe(log, name))}
    if not found:
        found |= {name: figure for name in WITHOUT_LABELS if (figure := _probe(log, name))}
    yield from list(found.values())[:MOST_SCORES]


def _probe(log: Log, name: str) -> Figure | None:
    last = _last(log, name)
    if last is None:
        return None
    at = float(log.x[last[1]])
    return Figure(sentence(words(name)), score(name, last[0]), f"{log.x_name} {number(round(at, 1 if at < 3 else 0))}")


def _scores(evaluation: Mapping[str, Any]) -> Scores:
    table: dict[str, dict[str, Score]] = {}
    for name, value in evaluation["metrics"].items():
        prefix = next(prefix for prefix in JUDGED if name.startswith(prefix))
        said = Score(score(name, value), value if 0 <= value <= 1 else None)
        table.setdefault(name.removeprefix(prefix), {})[prefix] = said
    judged = [prefix for prefix in reversed(JUDGED) if any(prefix in row for row in table.values())]
    first = [*HEADLINES, *table]  # the scores that people ask for, then the others as they come
    rows = tuple(
        (score_name(name), tuple(table[name].get(prefix, Score("–", None)) for prefix in judged))
        for name in sorted(table, key=first.index)
    )
    settings = evaluation["settings"]
    about = ", ".join(str(settings[key]) for key in ("data", "split") if settings.get(key))
    heads = () if judged == [""] else tuple(JUDGED[prefix] for prefix in judged)
    return Scores(sentence(words(evaluation["protocol"])), about, heads, rows, tuple(flat(settings)))
