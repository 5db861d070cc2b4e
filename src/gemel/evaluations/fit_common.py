"""What the protocols that fit have in common: the split, the recipe's name, the words of a result."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from gemel.data.sources import Source
from gemel.data.sources.parts import Subset
from gemel.errors import UserError
from gemel.evaluations.base import Progress, Subject
from gemel.evaluations.splits import HOLD_OUT, hold_out, stable_path
from gemel.supervised.fit import Fitted, Precision, fit, summary
from gemel.supervised.recipes import Fitting

VALIDATION = 0.1
"""share of the training images that a rate is chosen by"""

REPORTED = (
    "top1, top5, mean_per_class: after the last epoch; best_...: of the epoch that is best on the same test images, as "
    "papers' code reports it"
)

SCRATCH = Fitting(
    source="PyTorch's ImageNet example: supervised, from fresh weights",
    epochs=90,
    batch_size=256,
    lr=(0.1,),
    backbone_lr=0.1,
    scale_lr=True,
    weight_decay=1e-4,
    schedule="steps",
    milestones=(1 / 3, 2 / 3),
)
"""the supervised baseline"""


class Parts(NamedTuple):
    """Images to fit on and to judge by."""

    train: Source
    tests: dict[str, Source]
    """test, and validation where a rate is chosen"""
    words: str


def parts_of(train: Source, test: Source | None, *, validation: bool = False) -> Parts:
    """The protocols' split: the test set if there is one, else a fifth of the images held out."""
    words = "a test set"
    if test is None:
        fitted, held = hold_out(train)
        train, test, words = Subset(train, fitted), Subset(train, held), HOLD_OUT
    tests = {"test": test}
    if validation:
        fitted, held = hold_out(train, VALIDATION)
        train, tests["validation"] = Subset(train, fitted), Subset(train, held)
        words += f"; {VALIDATION:.0%} of the training images held out to choose the rate by"
    return Parts(train, tests, words)


def method_of(subject: Subject) -> str:
    """The name of the subject's method, as its file; empty without one."""
    return "" if subject.method is None else type(subject.method).__module__.rsplit(".", 1)[-1]


def recipe_of(subject: Subject, recipes: Mapping[str, Any]) -> str:
    """Whose numbers hold where none are named: scratch for fresh weights, else the method's or twist's."""
    own = method_of(subject) if method_of(subject) in recipes else "twist"
    return "scratch" if subject.is_random else own


def given_of(lr: float | None, **others: Any) -> dict[str, Any]:
    """What overrides a recipe of one rate; None: the recipe's."""
    return {"lr": None if lr is None else (lr,)} | others


def fine_tuned(
    subject: Subject,
    recipe: str,
    fitting: Fitting,
    parts: Parts,
    *,
    seed: int,
    precision: Precision,
    tell: Progress | None,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics and settings of a copy of the network that is fitted with a fresh layer."""
    fitted = fit(
        deepcopy(subject.network),
        subject.facts,
        fitting,
        parts.train,
        parts.tests,
        folder=subject.folder,
        seed=seed,
        precision=precision,
        tell=tell,
    )
    return outcome_of(recipe, fitting, fitted, parts, head=0)


def outcome_of(
    recipe: str, fitting: Fitting, fitted: Fitted, parts: Parts, *, head: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """A head's metrics on the test set, of the last and of the best epoch; and every number of the fit."""
    found = summary([epoch[head] for epoch in fitted.history["test"]])
    metrics = {name: value for name, value in found.items() if name not in ("judged", "best_epoch")}
    return metrics, _settings(recipe, fitting, fitted, parts) | {"best_epoch": found["best_epoch"]}


def _settings(recipe: str, fitting: Fitting, fitted: Fitted, parts: Parts) -> dict[str, Any]:
    judged = {f"{name}_images": int(epochs[-1][0]["judged"]) for name, epochs in fitted.history.items()}
    # A test set's classes that the training images lack count as unknown: that must not pass unseen.
    unknown = {
        f"{name}_without_label": 0 if source.labels is None else int((source.labels < 0).sum())
        for name, source in parts.tests.items()
    }
    return {
        "recipe": recipe,
        **fitting.model_dump(mode="json"),
        **fitted.facts,
        "head": "linear, weights from N(0, 0.01²), bias 0",
        "split": parts.words,
        **judged,
        **unknown,
        "reported": REPORTED,
    }


def share_of(source: Source, percent: float, seed: int) -> Subset:
    """⌈percent · n_c / 100⌉ images of each class c: of its paths, sorted, the first after a seeded shuffle.

    A stand-in where a paper's list is not at hand; the order in which images are listed does not matter.

    Raises:
        UserError: there are no labels.
    """
    labels = _labels(source)
    chosen: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    for label in np.unique(labels[labels >= 0]):
        places = np.array(sorted(np.flatnonzero(labels == label), key=lambda place: stable_path(source, int(place))))
        count = int(np.ceil(round(percent * len(places) / 100, 9)))
        shuffled = np.random.default_rng([seed, int(label)]).permutation(places)
        chosen.append(shuffled[:count].astype(np.int64))
    return Subset(source, np.sort(np.concatenate(chosen)))


def listed(source: Source, lines: Sequence[str], file: str) -> Subset:
    """The images that a list names, by file name or by the end of their path.

    Raises:
        UserError: names of no image, of several, or given twice; or none at all.
    """
    by_name: dict[str, list[int]] = {}
    for place in range(len(source)):
        by_name.setdefault(source.path(place).replace("\\", "/").rsplit("/", 1)[-1], []).append(place)
    places: list[int] = []
    wrong: list[str] = []
    for line in lines:
        found = by_name.get(line.rsplit("/", 1)[-1], [])
        if "/" in line:
            found = [place for place in found if f"/{source.path(place)}".endswith(f"/{line.removeprefix('./')}")]
        if len(found) == 1:
            places.append(found[0])
        else:
            wrong.append(f"{line} ({len(found)} images)")
    if wrong:
        raise UserError(
            f"{len(wrong)} of the {len(lines)} names in --list {file} don't name one image of {source.name}: "
            f"{', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''}"
        )
    if not places or len(set(places)) < len(places):
        raise UserError(f"--list {file} names {'an image twice' if places else 'no image'}; one name a line")
    return Subset(source, np.sort(np.array(places, np.int64)))


def _labels(source: Source) -> np.ndarray[Any, np.dtype[np.int64]]:
    if source.labels is None or not (source.labels >= 0).any():
        raise UserError(f"{source.name} has no labels; give --labels folders or --labels FILE.csv (path,label)")
    return source.labels
