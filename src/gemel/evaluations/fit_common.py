"""What the protocols that fit share: the split, the recipe's name, what a result records."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gemel.data.sources import Source
from gemel.data.sources.parts import Subset
from gemel.errors import UserError, brief
from gemel.evaluations.base import Progress, Subject
from gemel.evaluations.splits import HOLD_OUT, hold_out
from gemel.supervised.fit import Fitted, fit, summary
from gemel.supervised.images import Labelled
from gemel.supervised.recipes import Fitting, Precision
from gemel.text_files import composed, shortened

VALIDATION = 0.1
"""share of the training images on which a learning rate is chosen"""

REPORTED = (
    "top1, top5, mean_per_class: after the last epoch; best_...: of the epoch that is best on the same test images, as "
    "papers' code reports it"
)

SCRATCH = Fitting(
    source="PyTorch's ImageNet example: supervised, from random weights",
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
    """Images to fit on and to be judged by."""

    train: Source
    tests: dict[str, Source]
    """test, and validation where a learning rate is chosen"""
    split: str
    """how a result describes them"""


def parts_of(train: Source, test: Source | None, *, validation: bool = False) -> Parts:
    """Split as all protocols do: by the test set if there is one, else by a fifth of the images, held out."""
    split = "a test set"
    if test is None:
        fitted, held = hold_out(train)
        train, test, split = train.subset(fitted), train.subset(held), HOLD_OUT
    tests = {"test": test}
    if validation:
        fitted, held = hold_out(train, VALIDATION)
        train, tests["validation"] = train.subset(fitted), train.subset(held)
        split += f"; {VALIDATION:.0%} of the training images held out to choose the learning rate"
    return Parts(train, tests, split)


def own_recipe(subject: Subject, protocol: str) -> str:
    """Return the name of a protocol's recipe for the subject's method: `Method.protocols`, else the method's own."""
    if subject.method is None:
        return ""
    return subject.method.protocols.get(protocol, type(subject.method).__module__.rsplit(".", 1)[-1])


def recipe_of(subject: Subject, recipes: Mapping[str, Any], protocol: str) -> str:
    """Return the recipe where none is named: scratch for random weights, else the method's or twist's."""
    own = own_recipe(subject, protocol)
    return "scratch" if subject.is_random else own if own in recipes else "twist"


def given_of(lr: float | None, **others: Any) -> dict[str, Any]:
    """Return what overrides a recipe with one learning rate; None: the recipe's value."""
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
    """Fit a copy of the network with a new layer; return metrics and what the result records."""
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
    """Return a head's metrics on the test set, of the last and of the best epoch; and every number of the fit."""
    found = summary([epoch[head] for epoch in fitted.history["test"]])
    metrics = {name: value for name, value in found.items() if name not in ("judged", "best_epoch")}
    return metrics, _settings(recipe, fitting, fitted, parts) | {"best_epoch": found["best_epoch"]}


def _settings(recipe: str, fitting: Fitting, fitted: Fitted, parts: Parts) -> dict[str, Any]:
    judged = {f"{name}_images": int(epochs[-1][0]["judged"]) for name, epochs in fitted.history.items()}
    unknown = {
        f"{name}_without_label": 0 if source.labels is None else int((source.labels < 0).sum())
        for name, source in parts.tests.items()
    }
    return {
        "recipe": recipe,
        **fitting.model_dump(mode="json"),
        **fitted.facts,
        "head": "linear, weights from N(0, 0.01²), bias 0",
        "split": parts.split,
        **judged,
        **unknown,
        "reported": REPORTED,
    }


def share_of(source: Source, percent: float, seed: int) -> Subset:
    """Return ⌈percent · n_c / 100⌉ images of each class c: of its paths, sorted, the first after a seeded shuffle.

    A stand-in where a paper's list is not at hand; the order in which images are listed does not matter.

    Raises:
        UserError: there are no labels.
    """
    labelled = Labelled.of(source)
    chosen: list[NDArray[np.int64]] = []
    for label in np.unique(labelled.labels):
        indices = labelled.indices[labelled.labels == label]
        indices = np.array(sorted(indices, key=lambda index: source.key(int(index))), np.int64)
        count = int(np.ceil(round(percent * len(indices) / 100, 9)))
        chosen.append(np.random.default_rng([seed, int(label)]).permutation(indices)[:count])
    return source.subset(np.sort(np.concatenate(chosen)))


def listed(source: Source, names: Sequence[str], file: str) -> Subset:
    """Return the images that a list names, by file name or by the end of their path.

    Raises:
        UserError: names of no image, of several, or given twice; or none at all.
    """
    paths = [_comparable(source.path(index)) for index in range(len(source))]
    by_name: dict[str, list[int]] = {}
    for index, path in enumerate(paths):
        by_name.setdefault(path.rpartition("/")[2], []).append(index)
    indices: list[int] = []
    wrong: list[str] = []
    for name in names:
        end = _comparable(name).removeprefix("./")
        found = [one for one in by_name.get(end.rpartition("/")[2], []) if f"/{paths[one]}".endswith(f"/{end}")]
        if len(found) == 1:
            indices.append(found[0])
        else:
            wrong.append(f"{brief(name)} ({len(found)} images)")
    if wrong:
        raise UserError(
            f"{len(wrong)} of the {len(names)} names in --list {file} don't name exactly one image of {source.name}: "
            f"{shortened(wrong)}"
        )
    if not indices or len(set(indices)) < len(indices):
        raise UserError(f"--list {file} names {'an image twice' if indices else 'no image'}; give one name per line")
    return source.subset(np.sort(np.array(indices, np.int64)))


def _comparable(path: str) -> str:
    """Return a path as another system may have written it: letters composed, folders separated by /."""
    return composed(path.replace("\\", "/"))
