"""Health of a run: what its metrics.csv shows, in plain words, with the number that shows it and what to try."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite, log
from typing import NamedTuple

import numpy as np

Columns = Mapping[str, Sequence[float | None]]
"""Columns of metrics.csv by name; None where nothing was measured."""

SPREAD_COLLAPSED = 0.1  # of 1, see collapse.spread
RANK_COLLAPSED = 2.0
RANK_SHARE_LOW = 0.02  # of the largest rank possible
CLASSES_COLLAPSED = 1.5  # effective number of classes
CLASS_SHARE_LOW = 0.5  # of the classes that could be used
UNIFORM = 0.99  # of the largest entropy possible
CHANCES_LOW = 5  # times the agreement that chance gives
STEPS_TO_FALL = 20  # logged losses before a loss is asked to have fallen

_COLLAPSE = "lower the learning rate, take gentler views or a larger batch, and check that batch norm is on"

ADVICE: Mapping[str, str] = {
    "no_loss": "train longer",
    "loss_not_finite": "lower the learning rate, warm it up longer, or train in float32 (--precision 32)",
    "loss_flat": "train longer, or try a learning rate three times smaller or larger",
    "diverged": "lower the learning rate, or train in float32 (--precision 32)",
    "same_embeddings": _COLLAPSE,
    "embeddings_on_a_line": _COLLAPSE,
    "low_rank": "train longer, or lower the learning rate; a wider head may help",
    "uniform_classes": "train longer, or raise the learning rate",
    "one_class": "take larger batches, or lower the learning rate",
    "few_classes": "train longer, or ask for fewer classes",
    "views_disagree": "take gentler views (less cropping, less colour), or train longer",
}
"""What to try by kind of finding; a method's own `advice` goes before it."""


class Finding(NamedTuple):
    """One thing that was found."""

    level: str
    """`bad`: the run has failed; `warning`: look at it; `good`"""
    kind: str
    """key of `ADVICE`; `good` for a good one"""
    message: str
    """plain words, with numbers"""
    advice: str = ""
    """what to try; empty for `good`"""


def health(columns: Columns, advice: Mapping[str, str] = {}) -> list[Finding]:
    """Judge a run by the last values that were measured, worst first; a loss that is not finite counts anywhere.

    Args:
        columns: those of metrics.csv; missing ones are not judged. `rankme_limit` is min(samples, width),
            `classes` the number of classes there are. Two more are optional: `probe_images`, how many images
            `classes_used` counts (1,024 images cannot use 4,096 classes), and `pairs`, how many pairs of views
            `agreement` compares (chance is one in that).
        advice: the method's own, by kind of finding.

    Returns:
        What is wrong, or one `good` finding with the numbers that speak for it.

    >>> [finding] = health({"loss": [0.0, -1.9], "class_entropy": [None, 1.02], "classes": [None, 10.0]})
    >>> finding.level, finding.message
    ('bad', 'All images land in 1 of 10 classes (effective number 1.02)')
    """
    last = {name: _last(columns[name]) for name in _JUDGED if name in columns}
    if last.get("loss") is None:
        found = [Finding("warning", "no_loss", "No loss was logged: the run ended before its first step")]
    else:
        measured = {name: value for name, value in last.items() if value is not None and isfinite(value)}
        broken = [name for name, value in last.items() if value is not None and not isfinite(value) and name != "loss"]
        checks = (
            _loss(columns),
            _numbers(broken),
            _embeddings(measured),
            _classes(measured, columns),
            _views(measured),
        )
        found = [finding for findings in checks for finding in findings]
        if not found:
            return [_good(columns, measured)]
    advised = [finding._replace(advice={**ADVICE, **advice}[finding.kind]) for finding in found]
    return sorted(advised, key=lambda finding: finding.level != "bad")


_PROBES = (
    "embedding_std",
    "rankme",
    "classes_used",
    "class_entropy",
    "classes_per_image",
    "agreement",
    "class_agreement",
    "knn",
    "acc",
    "nmi",
)
_JUDGED = ("loss", "rankme_limit", "classes", "probe_images", "pairs", *_PROBES)


def _loss(columns: Columns) -> list[Finding]:
    rows = [row for row, value in enumerate(columns["loss"], 1) if value is not None and not isfinite(value)]
    if rows:
        message = f"The loss is not a finite number in {len(rows)} rows of metrics.csv, first in row {rows[0]}"
        return [Finding("bad", "loss_not_finite", message)]
    first, last, count = _first_and_last_loss(columns)
    if count < STEPS_TO_FALL or last < first:
        return []
    message = f"The loss does not fall: {_number(first)} in the first tenth of the steps, {_number(last)} in the last"
    return [Finding("warning", "loss_flat", message)]


def _numbers(broken: Sequence[str]) -> list[Finding]:
    if not broken:
        return []
    message = f"The last {', '.join(broken)} {'is' if len(broken) == 1 else 'are'} not finite: the encoder has diverged"
    return [Finding("bad", "diverged", message)]


def _embeddings(measured: Mapping[str, float]) -> list[Finding]:
    found: list[Finding] = []
    spread, rank, limit = (measured.get(name) for name in ("embedding_std", "rankme", "rankme_limit"))
    if spread is not None and spread < SPREAD_COLLAPSED:
        message = f"The embeddings of all images are nearly the same (spread {_number(spread)}, from 0 to 1)"
        found.append(Finding("bad", "same_embeddings", message))
    of = _of(limit)
    if rank is not None and rank < RANK_COLLAPSED and (limit is None or limit > RANK_COLLAPSED):
        message = f"The embeddings lie on a line (effective rank {_number(rank)}{of})"
        found.append(Finding("bad", "embeddings_on_a_line", message))
    elif rank is not None and limit is not None and rank < _low_rank(limit, measured.get("classes")):
        message = f"The embeddings fill few of their dimensions (effective rank {_number(rank)}{of})"
        found.append(Finding("warning", "low_rank", message))
    return found


def _low_rank(limit: float, classes: float | None) -> float:
    """Fewer dimensions than this are few; well separated classes need no more dimensions than there are classes."""
    return min(RANK_SHARE_LOW * limit, limit if classes is None else classes / 2)


def _classes(measured: Mapping[str, float], columns: Columns) -> list[Finding]:
    classes, used, effective = (measured.get(name) for name in ("classes", "classes_used", "class_entropy"))
    if classes is None or classes < 2:
        return []
    # of one probe alone it says nothing: batch norms that have seen few steps make the first one uniform too
    per_image = min(_last_two(columns.get("classes_per_image", ())))
    if log(max(per_image, 1.0)) >= UNIFORM * log(classes):
        message = (
            f"Every image is given nearly the same probability for each of {classes:.0f} classes "
            f"(effective number of classes of one image {_number(per_image)})"
        )
        return [Finding("bad", "uniform_classes", message)]
    number = "" if effective is None else f" (effective number {_number(effective)})"
    if used == 1 or (effective is not None and effective < CLASSES_COLLAPSED):
        images = "All" if used in (1, None) else "Almost all"
        return [Finding("bad", "one_class", f"{images} images land in 1 of {classes:.0f} classes{number}")]
    if used is None or used >= CLASS_SHARE_LOW * _possible_classes(classes, measured.get("probe_images")):
        return []
    return [Finding("warning", "few_classes", f"Only {used:.0f} of {classes:.0f} classes are used{number}")]


def _possible_classes(classes: float, images: float | None) -> float:
    """Classes that `images` random images would use: C (1 - (1 - 1/C)^n)."""
    return classes if images is None else classes * (1 - (1 - 1 / classes) ** images)


def _views(measured: Mapping[str, float]) -> list[Finding]:
    agreement, pairs = measured.get("agreement"), measured.get("pairs")
    count = measured.get("rankme_limit") if pairs is None else pairs  # the limit is of the same order
    if agreement is None or count is None or agreement >= min(0.5, CHANCES_LOW / count):
        return []
    chance = "" if pairs is None else f"; chance is {1 / pairs:.1%}"
    message = f"Two views of one image hardly find each other ({agreement:.1%} of images{chance})"
    return [Finding("warning", "views_disagree", message)]


def _good(columns: Columns, measured: Mapping[str, float]) -> Finding:
    first, last, count = _first_and_last_loss(columns)
    parts = [f"the loss went from {_number(first)} to {_number(last)}" if count > 1 else f"the loss is {_number(last)}"]
    sayings = (
        "embeddings spread {:.2f} of 1",
        "effective rank {:.0f}" + _of(measured.get("rankme_limit")),
        "{:.0f}" + _of(measured.get("classes")) + " classes used",
        "effective number of classes {:.1f}",
        "of one image {:.1f}",
        "two views of an image find each other for {:.0%} of images",
        "and share a class for {:.0%}",
        "k-NN accuracy {:.3f}",
        "accuracy of the classes {:.3f}",
        "NMI {:.3f}",
    )
    parts += [saying.format(measured[name]) for name, saying in zip(_PROBES, sayings, strict=True) if name in measured]
    text = ", ".join(parts)
    return Finding("good", "good", text[0].upper() + text[1:])


def _first_and_last_loss(columns: Columns) -> tuple[float, float, int]:
    """Mean of the first and of the last tenth of the losses, and how many there are.

    In the stage with the most rows: another stage may have another loss (a second stage's).
    """
    stages = columns.get("stage", [None] * len(columns["loss"]))
    logged = [(stage, loss) for stage, loss in zip(stages, columns["loss"], strict=True) if loss is not None]
    [(longest, _)] = Counter(stage for stage, _ in logged).most_common(1)
    losses = [loss for stage, loss in logged if stage == longest]
    tenth = max(1, len(losses) // 10)
    return float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:])), len(losses)


def _last(values: Sequence[float | None]) -> float | None:
    return next((float(value) for value in reversed(values) if value is not None), None)


def _last_two(values: Sequence[float | None]) -> list[float]:
    """Return the last two values that were measured; 0 for one that is missing or not finite."""
    found = [value if isfinite(value) else 0.0 for value in values if value is not None]
    return [0.0, *found][-2:]


def _of(limit: float | None) -> str:
    return "" if limit is None else f" of {limit:.0f}"


def _number(value: float) -> str:
    return f"{value:.3g}"
